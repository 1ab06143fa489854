"""What a worker does to hold a job: claim it, keep it alive.

A claim is a lease with a fencing token. The lease says until when silence is believed; the token
says who may write. A worker that wakes up after its lease was reaped holds an old token, and
nothing it writes counts. Clocks of workers and reapers may differ by less than a lease.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import case, func, select, update
from sqlalchemy.orm import Session, aliased

from api_schemas.jobs import JobStatus
from registry import audit, events
from registry.errors import LeaseLost
from registry.jobs import record
from registry.jobs.moves import STARTING_PHASE, move
from registry.jobs.queue import held, queue, urgency
from registry.jobs.record import Job
from registry.tables import JobRow, ModelRow
from registry.transitions import CLAIMED


def claim(session: Session, *, worker: str, lease_seconds: float, now: datetime) -> Job | None:
    """The most urgent job that may run now, held by this worker alone, or None.

    Earliest deadline first, then priority, then age; a model with a claimed job is passed over,
    so one model's jobs run one after the other. The claim raises ``token`` and ``attempts``.
    """
    tried: list[str] = []
    while (model_id := _lock_next_model(session, tried)) is not None:
        job_id = _lock_next_job(session, model_id)
        if job_id is not None:
            return _take(session, job_id, worker=worker, lease_seconds=lease_seconds, now=now)
        tried.append(model_id)
    return None


def heartbeat(
    session: Session,
    job_id: str,
    token: int,
    *,
    lease_seconds: float,
    phase: str,
    fraction: float,
    eta_seconds: float | None,
    now: datetime,
) -> bool:
    """The lease runs until ``now`` + ``lease_seconds``, progress is written; True = stop, please.

    ``fraction`` is cut to 0..1 and never falls within one attempt. A new phase is a line of the
    job's history. Raises ``LeaseLost`` if the
    token is not the current one or the job is no longer claimed.
    """
    share = min(max(fraction, 0.0), 1.0)
    status = session.scalar(
        update(JobRow)
        .where(JobRow.id == job_id, JobRow.token == token, JobRow.status.in_(CLAIMED))
        .values(
            lease_expires_at=now + timedelta(seconds=lease_seconds),
            phase=phase,
            fraction=case((JobRow.fraction > share, JobRow.fraction), else_=share),
            eta_seconds=eta_seconds,
        )
        .returning(JobRow.status)
        .execution_options(synchronize_session=False)
    )
    if status is None:
        raise LeaseLost(job_id, token)
    events.note_phase(session, job_id, phase, now)
    return status is JobStatus.CANCELING


def _lock_next_model(session: Session, tried: list[str]) -> str | None:
    """The free model with the most urgent job, locked against other claims.

    One index look-up per model, whatever the number of jobs. A model that another claim has
    locked is passed over: that claim is about to hold it.
    """
    first = aliased(JobRow)
    return session.scalar(
        select(ModelRow.id)
        .join(first, first.id == queue(ModelRow.id).limit(1).scalar_subquery())
        .where(~held(ModelRow.id), ModelRow.id.not_in(tried))
        .order_by(*urgency(first))
        .limit(1)
        .with_for_update(of=ModelRow, key_share=True, skip_locked=True)
    )


def _lock_next_job(session: Session, model_id: str) -> str | None:
    """The locked model's most urgent job, or None if the model was taken meanwhile.

    Asked again after the lock, because what led to this model may be what was before the lock.
    Waits for a row that someone is changing (the relay notes a message as sent): to pass over
    the job for that would leave it without a wake-up.
    """
    return session.scalar(
        queue(model_id).where(~held(model_id)).limit(1).with_for_update(key_share=True)
    )


def _take(
    session: Session, job_id: str, *, worker: str, lease_seconds: float, now: datetime
) -> Job:
    taken = move(
        session,
        job_id,
        JobStatus.QUEUED,
        JobStatus.RUNNING,
        now=now,
        lease_owner=worker,
        lease_expires_at=now + timedelta(seconds=lease_seconds),
        token=JobRow.token + 1,
        attempts=JobRow.attempts + 1,
        started_at=func.coalesce(JobRow.started_at, now),
        phase=STARTING_PHASE,
        fraction=0.0,
        eta_seconds=None,
    )
    assert taken, "a locked queued job can be claimed"
    job = record.get(session, job_id)
    audit.append(
        session,
        tenant=job.tenant,
        actor=f"worker:{worker}",
        action="job.claimed",
        object_type="job",
        object_id=job_id,
        details={"attempt": job.attempts, "token": job.token},
        now=now,
    )
    return job
