"""Patches: what an edit changed, one row per job that came to a candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Row, Select, insert, select, update
from sqlalchemy.orm import Session

from api_schemas.patches import PatchManifest
from registry.errors import PatchNotFound
from registry.tables import JobRow, PatchRow, VersionRow


@dataclass(frozen=True, slots=True)
class NewPatch:
    """A patch whose file lies in the blob store already, under ``sha256`` (64 hex digits)."""

    id: str
    sha256: str
    bytes: int
    manifest: PatchManifest


@dataclass(frozen=True, slots=True)
class Patch:
    """A stored patch. ``version`` is the model version it made, None for a rejected candidate."""

    id: str
    job_id: str
    model_id: str
    version: int | None
    sha256: str
    bytes: int
    manifest: PatchManifest
    created_at: datetime


def get(session: Session, patch_id: str, tenant: str | None = None) -> Patch:
    """The patch; with ``tenant``, only if its job is that tenant's. Raises ``PatchNotFound``."""
    query = _query().where(PatchRow.id == patch_id)
    if tenant is not None:
        query = query.join(JobRow, JobRow.id == PatchRow.job_id).where(JobRow.tenant == tenant)
    found = session.execute(query).first()
    if found is None:
        raise PatchNotFound(patch_id)
    return _patch(found)


def in_line(session: Session, model_id: str, numbers: Sequence[int]) -> list[Patch]:
    """The patches of these versions of the model, in order; the caller knows they exist."""
    query = (
        _query()
        .where(VersionRow.model_id == model_id, VersionRow.number.in_(numbers))
        .order_by(VersionRow.number)
    )
    return [_patch(row) for row in session.execute(query)]


def store(session: Session, new: NewPatch, *, job_id: str, model_id: str, now: datetime) -> None:
    """The job's patch is kept; a second one of the same run is an integrity error."""
    session.execute(
        insert(PatchRow).values(
            id=new.id,
            job_id=job_id,
            model_id=model_id,
            sha256=new.sha256,
            bytes=new.bytes,
            manifest=new.manifest,
            created_at=now,
        )
    )


def replace(session: Session, job_id: str, *, now: datetime) -> None:
    """The job's candidate makes room for what its retry will leave; it is kept under its id."""
    session.execute(
        update(PatchRow)
        .where(PatchRow.job_id == job_id, PatchRow.replaced_at.is_(None))
        .values(replaced_at=now)
        .execution_options(synchronize_session=False)
    )


def _query() -> Select[PatchRow, int | None]:
    return select(PatchRow, VersionRow.number).outerjoin(
        VersionRow, VersionRow.patch_id == PatchRow.id
    )


def _patch(found: Row[PatchRow, int | None]) -> Patch:
    row, version = found
    return Patch(
        id=row.id,
        job_id=row.job_id,
        model_id=row.model_id,
        version=version,
        sha256=row.sha256,
        bytes=row.bytes,
        manifest=row.manifest,
        created_at=row.created_at,
    )
