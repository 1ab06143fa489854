"""What becomes of a job whose worker fell silent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from api_schemas.jobs import JobError, JobStatus, Outcome
from registry import audit, outbox
from registry.jobs.moves import QUEUED_PHASE, move
from registry.jobs.queue import wake_next
from registry.tables import JobRow
from registry.transitions import CLAIMED

DEAD_LETTERED = JobError(
    code="dead_lettered",
    message="Every attempt lost its worker; look at the workers' logs, then post the job again.",
    retryable=True,
)


@dataclass(frozen=True, slots=True)
class Reaped:
    """What became of the jobs whose leases had expired: their ids."""

    requeued: list[str]
    dead_lettered: list[str]
    canceled: list[str]


def reap(session: Session, *, max_attempts: int, now: datetime) -> Reaped:
    """Jobs whose leases have expired are taken from their workers; idempotent.

    ``running`` goes back to ``queued``, with a new message, while fewer than ``max_attempts``
    were made, else to ``failed`` with the code ``dead_lettered``; ``canceling`` to ``canceled``.
    A job whose row another transaction is changing is left for the next time.
    """
    reaped = Reaped(requeued=[], dead_lettered=[], canceled=[])
    rows = session.scalars(
        select(JobRow)
        .where(JobRow.status.in_(CLAIMED), JobRow.lease_expires_at <= now)
        # Not by id: SQLite, where it has statistics, would read every job to have them in order.
        .order_by(JobRow.lease_expires_at, JobRow.id)
        .with_for_update(key_share=True, skip_locked=True)
        .execution_options(populate_existing=True)
    ).all()
    for row in rows:
        _release(session, row, reaped, max_attempts=max_attempts, now=now)
    outbox.enqueue(session, reaped.requeued, now)
    for row in rows:
        wake_next(session, row.model_id, now)
    _note(session, reaped, {row.id: row.tenant for row in rows}, now)
    return reaped


def _release(
    session: Session, row: JobRow, reaped: Reaped, *, max_attempts: int, now: datetime
) -> None:
    if row.status is JobStatus.CANCELING:
        ending: dict[str, Any] = {"outcome": Outcome.CANCELED, "finished_at": now}
        move(session, row.id, row.status, JobStatus.CANCELED, now=now, **ending)
        reaped.canceled.append(row.id)
    elif row.attempts >= max_attempts:
        ending = {"outcome": Outcome.ERROR, "error": DEAD_LETTERED, "finished_at": now}
        move(session, row.id, row.status, JobStatus.FAILED, now=now, **ending)
        reaped.dead_lettered.append(row.id)
    else:
        start: dict[str, Any] = {"phase": QUEUED_PHASE, "fraction": 0.0, "resends": 0}
        move(session, row.id, row.status, JobStatus.QUEUED, now=now, **start)
        reaped.requeued.append(row.id)


def _note(session: Session, reaped: Reaped, tenants: Mapping[str, str], now: datetime) -> None:
    for action, job_ids in (
        ("job.requeued", reaped.requeued),
        ("job.failed", reaped.dead_lettered),
        ("job.canceled", reaped.canceled),
    ):
        for job_id in job_ids:
            audit.append(
                session,
                tenant=tenants[job_id],
                actor="reaper",
                action=action,
                object_type="job",
                object_id=job_id,
                details={"reason": "lease_expired"},
                now=now,
            )
