"""The only place that changes a job's state: every move is checked against the table."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import update
from sqlalchemy.orm import Session

from api_schemas.jobs import JobStatus
from registry import events, personal
from registry.tables import JobRow
from registry.transitions import CLAIMED, check

AWAITING_PHASE = "awaiting_approval"
QUEUED_PHASE = "queued"
STARTING_PHASE = "starting"


def move(
    session: Session,
    job_id: str,
    old: JobStatus,
    new: JobStatus,
    *,
    now: datetime,
    left: events.Left = events.NOTHING_LEFT,
    **values: object,
) -> bool:
    """Compare and set: the job went from ``old`` to ``new`` with these values, or nothing did.

    False when the job is not in ``old`` any more. A job that leaves its worker leaves its lease;
    one that ends (``finished_at`` is among the values) leaves its personal data to ``personal``.
    The move is a line of the job's history, and told to whom it concerns; ``left`` is what the
    run leaves behind. Raises ``IllegalTransition``; ``PersonalDataGone`` where a job that has
    ended would go on without it.
    """
    check(old, new)
    if new not in CLAIMED:
        values |= {"lease_owner": None, "lease_expires_at": None, "eta_seconds": None}
    moved = session.execute(
        update(JobRow)
        .where(JobRow.id == job_id, JobRow.status == old)
        .values(status=new, **values)
        .returning(JobRow.id)
        .execution_options(synchronize_session=False)
    ).first()
    if moved is None:
        return False
    events.append(session, job_id, events.type_of(old, new), left=left, now=now)
    if new.is_final:
        ended_at = values["finished_at"]
        assert isinstance(ended_at, datetime)
        personal.schedule(session, job_id, ended_at)
    elif old.is_final:
        personal.recall(session, job_id)
    return True
