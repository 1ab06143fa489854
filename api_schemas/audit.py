"""The audit log as its readers see it. ``docs/evidence.md`` says which bytes are hashed."""

from __future__ import annotations

from pydantic import Field, JsonValue

from api_schemas.base import Output


class AuditLine(Output):
    """One line of the log. Its leaf is the hash of every field but ``leaf_hash``."""

    index: int = Field(description="Place in the log, from 0, without gaps.")
    at: str = Field(
        description="UTC, always with six decimals.", examples=["2026-03-01T12:00:00.000000Z"]
    )
    tenant: str | None = Field(description="Whose line it is; null for the operator's own.")
    actor: str
    action: str
    object_type: str
    object_id: str
    details: dict[str, JsonValue]
    leaf_hash: str = Field(description="The line's leaf in the tree, in hex.")


class AuditPage(Output):
    """Lines of one tenant, oldest first; ``next`` is ``after`` for the following page, if any."""

    items: list[AuditLine]
    next: int | None


class InclusionProof(Output):
    """That the leaf ``index`` is in the tree of ``size`` leaves (RFC 6962, 2.1.1)."""

    index: int
    size: int
    hashes: list[str] = Field(description="From the leaf's sibling to the root's child, in hex.")


class ConsistencyProof(Output):
    """That the tree of ``second`` leaves begins with that of ``first`` (RFC 6962, 2.1.2)."""

    first: int
    second: int
    hashes: list[str] = Field(description="In the order of the RFC, in hex.")


class LoggedLine(Output):
    """A line and the proof that it is in the log: ``log.json`` of an evidence folder."""

    line: AuditLine
    inclusion: InclusionProof
