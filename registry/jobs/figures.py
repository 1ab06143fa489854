"""Figures for the dashboard."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api_schemas.jobs import FINAL, JobStatus, Outcome
from registry.tables import JobRow, OutboxRow
from registry.transitions import CLAIMED

_OPEN = tuple(status for status in JobStatus if status not in FINAL)


@dataclass(frozen=True, slots=True)
class Counts:
    """How much there is of everything, of all tenants together.

    ``by_status`` and ``by_outcome`` have an entry for every value, 0 where there is none.
    ``oldest_queued_seconds`` is 0 when nothing waits. ``expired_leases`` are claimed jobs that
    the reaper should take; ``overdue`` are unfinished jobs past their deadline.
    ``least_deadline_seconds`` is what is left to the nearest deadline of an unfinished job, and
    ``least_lease_seconds`` to the end of the nearest lease: below zero when it has passed, None
    where there is none.
    """

    by_status: dict[JobStatus, int]
    by_outcome: dict[Outcome, int]
    oldest_queued_seconds: float
    expired_leases: int
    overdue: int
    unsent_messages: int
    least_deadline_seconds: float | None
    least_lease_seconds: float | None


def counts(session: Session, *, now: datetime) -> Counts:
    """The figures at this moment. Reads indexes only, however many jobs there are."""
    by_status = dict.fromkeys(JobStatus, 0)
    by_outcome = dict.fromkeys(Outcome, 0)
    groups = select(JobRow.status, JobRow.outcome, func.count()).group_by(
        JobRow.status, JobRow.outcome
    )
    for status, outcome, number in session.execute(groups):
        by_status[status] += number
        if outcome is not None:
            by_outcome[outcome] += number
    oldest = session.scalar(
        select(func.min(JobRow.created_at)).where(JobRow.status == JobStatus.QUEUED)
    )
    expired = select(func.count()).where(JobRow.status.in_(CLAIMED), JobRow.lease_expires_at <= now)
    nearest = select(func.min(JobRow.due_at)).where(JobRow.status.in_(_OPEN))
    soonest = select(func.min(JobRow.lease_expires_at)).where(JobRow.status.in_(CLAIMED))
    overdue = select(func.count()).where(JobRow.status.in_(_OPEN), JobRow.due_at < now)
    return Counts(
        by_status=by_status,
        by_outcome=by_outcome,
        oldest_queued_seconds=0.0 if oldest is None else max(0.0, (now - oldest).total_seconds()),
        expired_leases=session.scalar(expired) or 0,
        overdue=session.scalar(overdue) or 0,
        unsent_messages=session.scalar(select(func.count()).select_from(OutboxRow)) or 0,
        least_deadline_seconds=_left(session.scalar(nearest), now),
        least_lease_seconds=_left(session.scalar(soonest), now),
    )


def _left(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else (moment - now).total_seconds()
