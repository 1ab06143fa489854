"""What requesters do: post a job, call it off."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import insert
from sqlalchemy.orm import Session

from api_schemas.events import EventType
from api_schemas.jobs import JobStatus, Outcome
from api_schemas.requests import UnlearnRequest
from registry import audit, events, ids, outbox, personal
from registry import idempotency as keys
from registry.errors import JobFinished, ModelNotFound
from registry.jobs import record
from registry.jobs.moves import QUEUED_PHASE, move
from registry.jobs.record import Job
from registry.sealing import DataKey
from registry.tables import NO_DEADLINE, JobRow, ModelRow


def accept(
    session: Session,
    request: UnlearnRequest,
    *,
    tenant: str,
    principal: str,
    samples: Sequence[str],
    probe_samples: Sequence[str],
    due_at: datetime | None,
    idempotency: keys.Key | None,
    now: datetime,
    data_key: DataKey | None = None,
    retention_days: int = 0,
) -> Job:
    """The job, its idempotency row, audit entry and outbox row, in the caller's transaction.

    The request's personal part is kept sealed under ``data_key``, which the caller has sealed the
    pictures with, and is deleted ``retention_days`` after the job has ended (0: with its end).
    ``due_at`` is the deadline that counts (the caller weighs the requester's and the law's). A
    key that has made a job already returns that job as it stands now, and nothing is written.
    Raises ``ModelNotFound``; ``IdempotencyConflict`` when the key was used for another request.
    """
    if session.get(ModelRow, request.model) is None:
        raise ModelNotFound(request.model)
    job_id = ids.new_job_id()
    if idempotency is not None:
        owner = keys.reserve(
            session, tenant=tenant, principal=principal, key=idempotency, job_id=job_id, now=now
        )
        if owner != job_id:
            return record.get(session, owner)
    session.execute(
        insert(JobRow).values(
            id=job_id,
            tenant=tenant,
            principal=principal,
            model_id=request.model,
            status=JobStatus.QUEUED,
            phase=QUEUED_PHASE,
            fraction=0.0,
            created_at=now,
            due_at=due_at,
            queue_due=NO_DEADLINE if due_at is None else due_at,
            queue_rank=-request.priority,
            attempts=0,
            token=0,
            resends=0,
            request=request.without_personal(),
            samples=list(samples),
            probe_samples=list(probe_samples),
        )
    )
    personal.keep(
        session,
        job_id,
        request,
        tenant=tenant,
        data_key=data_key or DataKey.random(),
        retention_days=retention_days,
    )
    outbox.enqueue(session, [job_id], now)
    events.append(session, job_id, EventType.ACCEPTED, now=now)
    job = record.get(session, job_id)
    _note_acceptance(session, job, principal=principal, now=now)
    return job


def _note_acceptance(session: Session, job: Job, *, principal: str, now: datetime) -> None:
    request = job.request
    audit.append(
        session,
        tenant=job.tenant,
        actor=principal,
        action="job.accepted",
        object_type="job",
        object_id=job.id,
        # Nothing that the requester wrote in free text: that may be personal data.
        details={
            "model": request.model,
            "method": request.method.method,
            "regulation": request.regulation.value,
            "dry_run": request.dry_run,
            "subjects": [each.subject for each in job.subjects],
        },
        now=now,
    )


def cancel(
    session: Session, job_id: str, *, tenant: str | None, principal: str, now: datetime
) -> Job:
    """Ask that the job stops; idempotent.

    A queued job is ``canceled`` at once; a running one is ``canceling`` until its worker (or the
    reaper) answers; one that is ``canceling`` or ``canceled`` is left as it is. Raises
    ``JobNotFound``, also for another tenant's job; ``JobFinished``.
    """
    row = record.lock(session, job_id, tenant)
    status, owner = row.status, row.tenant
    if status in {JobStatus.CANCELING, JobStatus.CANCELED}:
        return record.get(session, job_id)
    if status.is_final:
        raise JobFinished(job_id, status)
    if status is JobStatus.QUEUED:
        action = "job.canceled"
        move(
            session,
            job_id,
            status,
            JobStatus.CANCELED,
            now=now,
            outcome=Outcome.CANCELED,
            finished_at=now,
        )
    else:
        action = "job.cancel_requested"
        move(session, job_id, status, JobStatus.CANCELING, now=now)
    audit.append(
        session,
        tenant=owner,
        actor=principal,
        action=action,
        object_type="job",
        object_id=job_id,
        details={"was": status.value},
        now=now,
    )
    return record.get(session, job_id)
