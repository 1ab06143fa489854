"""A job's history: one row per event, written in the transaction that makes it happen.

Numbers are given out per job, under the lock of the job's row: whoever writes number n + 1 has
waited for the commit of number n. So they become visible in order, and jobs do not wait for each
other. Callers of ``append`` therefore hold that lock: they have just written the job's row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, func, insert, select
from sqlalchemy.orm import Session

from api_schemas.events import EventData, EventType, JobEvent
from api_schemas.jobs import JobStatus
from registry import deliveries
from registry.tables import JobEventRow, JobRow


@dataclass(frozen=True, slots=True)
class Left:
    """What a run leaves behind: the patch, and the version if the patch was published as one."""

    patch_id: str | None = None
    model_version: int | None = None


NOTHING_LEFT: Final = Left()
#: Of how many jobs one statement asks.
AT_ONCE: Final = 500
# Made once, because who listens asks again and again.
_LATEST: Final = select(func.max(JobEventRow.number)).where(
    JobEventRow.job_id == bindparam("job_id")
)
_LATEST_OF: Final = (
    select(JobEventRow.job_id, func.max(JobEventRow.number))
    .where(JobEventRow.job_id.in_(bindparam("job_ids", expanding=True)))
    .group_by(JobEventRow.job_id)
)
_AFTER: Final = (
    select(JobEventRow)
    .where(
        JobEventRow.job_id == bindparam("job_id"),
        JobEventRow.number > bindparam("number"),
        JobEventRow.tenant == bindparam("tenant"),
    )
    .order_by(JobEventRow.number)
    .limit(bindparam("limit"))
)


_TO_QUEUE: Final = {
    (JobStatus.AWAITING_APPROVAL, JobStatus.QUEUED): EventType.APPROVED,
    (JobStatus.RUNNING, JobStatus.QUEUED): EventType.REQUEUED,
}


def type_of(old: JobStatus, new: JobStatus) -> EventType:
    """The event that a move from ``old`` to ``new`` is."""
    if old.is_final and not new.is_final:
        return EventType.RETRIED
    return _TO_QUEUE.get((old, new)) or EventType(f"job.{new.value}")


def append(
    session: Session,
    job_id: str,
    kind: EventType,
    *,
    left: Left = NOTHING_LEFT,
    now: datetime,
) -> None:
    """The event, with the job as it stands now, and a message to every webhook it concerns.

    All of it happens if and only if the caller's transaction commits.
    """
    job = session.execute(
        select(
            JobRow.tenant,
            JobRow.status,
            JobRow.outcome,
            JobRow.phase,
            JobRow.attempts,
            JobRow.error,
        ).where(JobRow.id == job_id)
    ).one()
    data = EventData(
        status=job.status,
        outcome=job.outcome,
        phase=job.phase,
        attempt=job.attempts,
        error_code=None if job.error is None else job.error.code,
        patch_id=left.patch_id,
        model_version=left.model_version,
    )
    number = latest(session, job_id) + 1
    session.execute(
        insert(JobEventRow).values(
            job_id=job_id, number=number, tenant=job.tenant, type=kind, at=now, data=data
        )
    )
    deliveries.enqueue(session, tenant=job.tenant, job_id=job_id, number=number, kind=kind, now=now)


def note_phase(session: Session, job_id: str, phase: str, now: datetime) -> None:
    """A heartbeat's phase is an event if it is another one than the last event's."""
    last = session.scalar(
        select(JobEventRow.data)
        .where(JobEventRow.job_id == job_id)
        .order_by(JobEventRow.number.desc())
        .limit(1)
    )
    if last is None or last.phase != phase:
        append(session, job_id, EventType.PROGRESS, now=now)


def after(session: Session, job_id: str, number: int, *, tenant: str, limit: int) -> list[JobEvent]:
    """The job's events with ids above ``number``, oldest first, at most ``limit``.

    Another tenant's job has none. A reader that goes on after the last id it saw misses nothing
    and sees nothing twice.
    """
    asked = {"job_id": job_id, "number": number, "tenant": tenant, "limit": limit}
    rows = session.scalars(_AFTER, asked)
    return [from_row(row) for row in rows]


def latest(session: Session, job_id: str) -> int:
    """The id of the job's last event, 0 if it has none."""
    return session.scalar(_LATEST, {"job_id": job_id}) or 0


def latest_of(session: Session, job_ids: Sequence[str]) -> dict[str, int]:
    """The same for many jobs at once; those without an event are left out."""
    found: dict[str, int] = {}
    for start in range(0, len(job_ids), AT_ONCE):
        ids = job_ids[start : start + AT_ONCE]
        found.update((row[0], row[1]) for row in session.execute(_LATEST_OF, {"job_ids": ids}))
    return found


def from_row(row: JobEventRow) -> JobEvent:
    """The event as everybody is told it."""
    return JobEvent(id=row.number, type=row.type, job_id=row.job_id, at=row.at, data=row.data)
