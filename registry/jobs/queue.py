"""The order of the queue, and the wake-up of whoever is next in it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Exists, Select, exists, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from api_schemas.jobs import JobStatus
from registry import outbox
from registry.tables import JobRow, OutboxRow
from registry.transitions import CLAIMED


def urgency(job: type[JobRow]) -> tuple[InstrumentedAttribute[Any], ...]:
    """What a queue is sorted by: the deadline, then the priority, then the age.

    The columns of ``ix_jobs_queue`` in its order, all ascending, so that the index is the queue.
    """
    return (job.queue_due, job.queue_rank, job.created_at, job.id)


def queue(model_id: InstrumentedAttribute[str] | str) -> Select[str]:
    """The model's queued jobs, the most urgent first: their ids."""
    job = aliased(JobRow)
    return (
        select(job.id)
        .where(job.model_id == model_id, job.status == JobStatus.QUEUED)
        .order_by(*urgency(job))
    )


def held(model_id: InstrumentedAttribute[str] | str) -> Exists:
    """Whether a job of this model is claimed, be its lease still good or about to be reaped."""
    job = aliased(JobRow)
    return exists().where(job.model_id == model_id, job.status.in_(CLAIMED))


def wake_next(session: Session, model_id: str, now: datetime) -> None:
    """The model's next job has a message on its way, now that the model is free.

    Its own message may have come and gone while the model was held.
    """
    following = session.scalar(queue(model_id).limit(1))
    if following is None:
        return
    if session.scalar(select(exists().where(OutboxRow.job_id == following))):
        return
    outbox.enqueue(session, [following], now)
