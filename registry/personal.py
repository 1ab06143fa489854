"""What a job holds of people: kept sealed, opened with the session's keys, deleted on time.

Each job has one row here. While the job may run, the row holds its wrapped data key and the sealed
part of its request. When the job has ended, both go: at once, or when the tenant's retention is
over. Then ``due`` hands the pictures to whoever deletes blobs, and ``note_erased`` says that they
are gone. The keyed hashes of the subjects stay, without a key to open anything.

A job that ends and a job that is tried again pass through ``registry.jobs.moves``, which calls
``schedule`` and ``recall``: no caller has to remember.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from api_schemas.requests import UnlearnRequest
from registry import audit, painted
from registry.database import keys_of
from registry.errors import KeysMissing, PersonalDataGone, SealBroken
from registry.sealing import DataKey
from registry.subjects import subjects_of
from registry.tables import JobRow, PersonalRow

_NOTHING: Final[Mapping[str, object]] = {"data_key": None, "sealed": None}


@dataclass(frozen=True, slots=True)
class Due:
    """A job whose personal data is out of reach, and the blobs that must still be deleted."""

    job_id: str
    tenant: str
    blobs: tuple[str, ...]


def keep(
    session: Session,
    job_id: str,
    request: UnlearnRequest,
    *,
    tenant: str,
    data_key: DataKey,
    retention_days: int,
) -> None:
    """The request's personal part is kept, sealed, next to the job's row."""
    keys = keys_of(session)
    session.execute(
        insert(PersonalRow).values(
            job_id=job_id,
            retention_days=retention_days,
            data_key=data_key.wrapped(keys, job_id),
            sealed=data_key.seal_request(request),
            subjects=subjects_of(request.wanted(), tenant, keys),
        )
    )


def opened(
    session: Session, row: JobRow, kept: PersonalRow | None
) -> tuple[UnlearnRequest, DataKey | None]:
    """The job's request with its personal part, and the key to its pictures; as far as they exist.

    Without the key (deleted, or another installation's) the request comes without its targets:
    whoever only shows a job needs none, and the worker says what is missing.
    """
    if kept is None or kept.data_key is None or kept.sealed is None:
        return row.request, None
    try:
        data_key = DataKey.unwrapped(kept.data_key, keys_of(session), row.id)
        return data_key.open_request(kept.sealed, row.request), data_key
    except (SealBroken, KeysMissing):
        return row.request, None


def schedule(session: Session, job_id: str, ended_at: datetime) -> None:
    """The job has ended: its personal data goes with this transaction, or when retention ends.

    The caller holds the job's row, as for ``recall``.
    """
    days = retention_days(session, job_id)
    erase_at = {"erase_at": ended_at + timedelta(days=days)}
    _set(session, job_id, erase_at if days else {**erase_at, **_NOTHING})


def retention_days(session: Session, job_id: str) -> int:
    """For how many days after its end the job's personal data is kept."""
    query = select(PersonalRow.retention_days).where(PersonalRow.job_id == job_id)
    return session.scalar(query) or 0


def recall(session: Session, job_id: str) -> None:
    """The job runs again: its personal data stays until it ends. Raises ``PersonalDataGone``."""
    sealed = session.scalar(select(PersonalRow.sealed).where(PersonalRow.job_id == job_id))
    if sealed is None:
        raise PersonalDataGone(job_id)
    _set(session, job_id, {"erase_at": None})


def due(session: Session, *, limit: int, now: datetime) -> list[Due]:
    """Jobs whose time is over, at most ``limit``: nothing of theirs can be opened any more.

    Idempotent: a job comes again until ``note_erased``. Blobs that another job still needs (stored
    in the clear, before there were keys) are left out.
    """
    found = session.execute(
        select(JobRow, PersonalRow)
        .join(PersonalRow, PersonalRow.job_id == JobRow.id)
        .where(PersonalRow.erased_at.is_(None), PersonalRow.erase_at <= now)
        .order_by(PersonalRow.erase_at)
        .limit(limit)
        .with_for_update(of=JobRow, key_share=True, skip_locked=True)
        .execution_options(populate_existing=True)
    ).all()
    over = {row.id: {*row.samples, *row.probe_samples} for row, _ in found}
    owners = {row.id: row.tenant for row, _ in found}
    for row, kept in found:
        _forget(session, row, kept)
    needed = needed_blobs(session, besides=over) if over else set()
    return [
        Due(job_id, owners[job_id], tuple(sorted(blobs - needed))) for job_id, blobs in over.items()
    ]


def note_erased(session: Session, over: Iterable[Due], now: datetime) -> None:
    """These jobs' pictures are deleted; the audit log says so, once for each job."""
    noted = {"erased_at": now}
    first = [one for one in over if _set(session, one.job_id, noted, unless_erased=True)]
    nothing: list[str] = []
    session.execute(
        update(JobRow)
        .where(JobRow.id.in_([one.job_id for one in first]))
        .values(samples=nothing, probe_samples=nothing)
        .execution_options(synchronize_session=False)
    )
    for one in first:
        audit.append(
            session,
            tenant=one.tenant,
            actor="janitor",
            action="job.erased",
            object_type="job",
            object_id=one.job_id,
            details={"pictures": len(one.blobs)},
            now=now,
        )


def needed_blobs(session: Session, besides: Collection[str] = ()) -> set[str]:
    """The pictures of every job whose personal data is not deleted yet, ``besides`` these jobs."""
    rows = session.execute(
        select(JobRow.id, JobRow.samples, JobRow.probe_samples)
        .join(PersonalRow, PersonalRow.job_id == JobRow.id)
        .where(PersonalRow.erased_at.is_(None))
    )
    return {
        digest
        for job_id, samples, probe_samples in rows
        if job_id not in besides
        for digest in (*samples, *probe_samples)
    }


def _forget(session: Session, row: JobRow, kept: PersonalRow) -> None:
    """Nothing of the job can be opened; a request in the clear leaves its subjects' hashes."""
    values = dict(_NOTHING)
    if kept.subjects is None:
        values["subjects"] = subjects_of(row.request.wanted(), row.tenant, keys_of(session))
    _set(session, row.id, values)
    if kept.retention_days:
        painted.delete(session, row.id)
    session.execute(
        update(JobRow)
        .where(JobRow.id == row.id)
        .values(request=row.request.without_personal())
        .execution_options(synchronize_session=False)
    )


def _set(
    session: Session, job_id: str, values: Mapping[str, object], *, unless_erased: bool = False
) -> bool:
    """Write these columns of the job's row here; False = there was nothing to write to."""
    change = update(PersonalRow).where(PersonalRow.job_id == job_id)
    if unless_erased:
        change = change.where(PersonalRow.erased_at.is_(None))
    changed = session.execute(
        change.values(dict(values))
        .returning(PersonalRow.job_id)
        .execution_options(synchronize_session=False)
    ).first()
    return changed is not None
