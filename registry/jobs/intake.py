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
from registry.jobs.moves import AWAITING_PHASE, QUEUED_PHASE, move
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
    approval_required: bool = False,
) -> Job:
    """The job, its idempotency row, audit entry and outbox row, in the caller's transaction.

    With ``approval_required`` it waits for somebody else's approval and no message is written;
    its deadline is counted from the receipt all the same. The request's personal part is kept
    sealed under ``data_key``, which the caller has sealed the pictures with, and is deleted
    ``retention_days`` after the job has ended (0: with its end).

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
    insert_job(
        session,
        request,
        id=job_id,
        tenant=tenant,
        principal=principal,
        status=JobStatus.AWAITING_APPROVAL if approval_required else JobStatus.QUEUED,
        phase=AWAITING_PHASE if approval_required else QUEUED_PHASE,
        approval_required=approval_required,
        created_at=now,
        due_at=due_at,
        queue_due=NO_DEADLINE if due_at is None else due_at,
        samples=list(samples),
        probe_samples=list(probe_samples),
    )
    personal.keep(
        session,
        job_id,
        request,
        tenant=tenant,
        data_key=data_key or DataKey.random(),
        retention_days=retention_days,
    )
    if not approval_required:
        outbox.enqueue(session, [job_id], now)
    events.append(session, job_id, EventType.ACCEPTED, now=now)
    job = record.get(session, job_id)
    _note_acceptance(session, job, approval=approval_required, principal=principal, now=now)
    return job


def insert_job(session: Session, request: UnlearnRequest, **values: object) -> None:
    """A job's row with these values, not begun; the request's personal part is for ``personal``."""
    unbegun = {"fraction": 0.0, "attempts": 0, "token": 0, "resends": 0, "retries": 0}
    rank = {"model_id": request.model, "queue_rank": -request.priority}
    row = {**unbegun, **rank, "request": request.without_personal()}
    session.execute(insert(JobRow).values(**row, **values))


def _note_acceptance(
    session: Session, job: Job, *, approval: bool, principal: str, now: datetime
) -> None:
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
            "approval_required": approval,
            "subjects": [each.subject for each in job.subjects],
        },
        now=now,
    )


def cancel(
    session: Session, job_id: str, *, tenant: str | None, principal: str, now: datetime
) -> Job:
    """Ask that the job stops; idempotent.

    A job that is queued or awaits approval is ``canceled`` at once; a running one is ``canceling``
    until its worker (or the reaper) answers; one that is ``canceling`` or ``canceled`` is left as
    it is. Raises ``JobNotFound``, also for another tenant's job; ``JobFinished``.
    """
    row = record.lock(session, job_id, tenant)
    status, owner = row.status, row.tenant
    if status in {JobStatus.CANCELING, JobStatus.CANCELED}:
        return record.get(session, job_id)
    if status.is_final:
        raise JobFinished(job_id, status)
    if status in {JobStatus.QUEUED, JobStatus.AWAITING_APPROVAL}:
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
