"""A line of the audit log as the bytes that its leaf hashes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from api_schemas.audit import AuditLine
from evidence import merkle


def moment(at: datetime) -> str:
    """The moment in UTC, always with six decimals: one moment, one text."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def make(
    *,
    index: int,
    at: datetime,
    tenant: str | None,
    actor: str,
    action: str,
    object_type: str,
    object_id: str,
    details: Mapping[str, object],
) -> AuditLine:
    """The line with its leaf hash. Raises ``ValueError`` for details that are no JSON."""
    fields = {
        "index": index,
        "at": moment(at),
        "tenant": tenant,
        "actor": actor,
        "action": action,
        "object_type": object_type,
        "object_id": object_id,
        # As it will be read back: lists for tuples, text for keys.
        "details": json.loads(json.dumps(dict(details), allow_nan=False)),
    }
    return AuditLine.model_validate(fields | {"leaf_hash": _hash(fields).hex()})


def leaf(line: AuditLine) -> bytes:
    """The leaf that the line's fields have, whatever its ``leaf_hash`` says."""
    return _hash(line.model_dump(mode="json", exclude={"leaf_hash"}))


def _hash(fields: Mapping[str, object]) -> bytes:
    text = json.dumps(
        fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return merkle.leaf_hash(text.encode())
