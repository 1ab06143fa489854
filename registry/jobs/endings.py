"""How a job ends: by its worker's word, with everything the run left behind."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from api_schemas.jobs import JobError, JobStatus, Outcome
from api_schemas.reports import Report
from registry import audit, drafts, events, models, painted, patches, personal
from registry.errors import JobNotFound, LeaseLost
from registry.jobs import record
from registry.jobs.moves import move
from registry.jobs.queue import wake_next
from registry.jobs.record import Job
from registry.tables import JobRow
from registry.transitions import CLAIMED, check_ending


def draft(session: Session, job_id: str, token: int, sha256: str, *, now: datetime) -> None:
    """The worker is about to store this patch file, and commits before it does.

    Raises ``LeaseLost`` when this claim is not the current one. See ``registry.drafts``.
    """
    _lock_claimed(session, job_id, token)
    drafts.note(session, sha256, job_id, now=now)


def finish(
    session: Session,
    job_id: str,
    token: int,
    *,
    status: JobStatus,
    outcome: Outcome,
    error: JobError | None = None,
    report: Report | None = None,
    patch: patches.NewPatch | None = None,
    now: datetime,
) -> Job:
    """The job has ended, with report, patch and version written in the caller's transaction.

    A patch of a succeeded job is the model's next version; one of a rejected job is kept as a
    candidate. The model's next job gets a wake-up. Raises ``LeaseLost`` when this claim is not
    the current one or the job has ended already; ``IllegalTransition``; ``StaleParent`` when the
    patch was not made on the end of the model's line (a revocation may have moved it);
    ``ValueError`` when status, outcome and patch contradict each other (see
    ``registry.transitions``).
    """
    check_ending(status, outcome, has_patch=patch is not None)
    row = _lock_claimed(session, job_id, token)
    model_id, owner = row.model_id, row.lease_owner
    if patch is not None:
        _check_base(session, patch, model_id=model_id, status=status)
    # From here on nothing is refused: a caller that goes on after an error has written nothing.
    verdict = None if report is None or report.gate is None else report.gate.verdict
    moved = move(
        session,
        job_id,
        row.status,
        status,
        now=now,
        left=_left(session, patch, model_id=model_id, status=status),
        outcome=outcome,
        verdict=verdict,
        error=error,
        report=None if report is None else _storable(session, job_id, report),
        finished_at=now,
        fraction=1.0 if status is JobStatus.SUCCEEDED else row.fraction,
    )
    assert moved, "a locked job stays where it is"
    if patch is not None:
        _keep(session, patch, job_id=job_id, model_id=model_id, status=status, now=now)
    wake_next(session, model_id, now)
    job = record.get(session, job_id)
    audit.append(
        session,
        tenant=job.tenant,
        actor=f"worker:{owner}",
        action=f"job.{status.value}",
        object_type="job",
        object_id=job_id,
        details={
            "outcome": outcome.value,
            "token": token,
            "error_code": None if error is None else error.code,
            "patch_id": job.patch_id,
            "patch_sha256": None if patch is None else patch.sha256,
            "model_version": job.model_version,
        },
        now=now,
    )
    return job


def _left(
    session: Session, patch: patches.NewPatch | None, *, model_id: str, status: JobStatus
) -> events.Left:
    if patch is None:
        return events.NOTHING_LEFT
    published = status is JobStatus.SUCCEEDED
    version = models.next_number(session, model_id) if published else None
    return events.Left(patch_id=patch.id, model_version=version)


def _storable(session: Session, job_id: str, report: Report) -> Report:
    """Pictures of the target go when the job ends, as the request's own do, or are sealed."""
    keeps = bool(report.pictures) and personal.retention_days(session, job_id) > 0
    return painted.stored(report, record.get(session, job_id).data_key if keeps else None)


def _lock_claimed(session: Session, job_id: str, token: int) -> JobRow:
    try:
        row = record.lock(session, job_id)
    except JobNotFound:
        raise LeaseLost(job_id, token) from None
    if row.token != token or row.status not in CLAIMED:
        raise LeaseLost(job_id, token)
    return row


def _check_base(
    session: Session, patch: patches.NewPatch, *, model_id: str, status: JobStatus
) -> None:
    base = patch.manifest.model
    if base.id != model_id:
        raise ValueError("the patch's manifest names another model than the job's")
    if status is JobStatus.SUCCEEDED:
        models.check_parent(session, model_id, base.parent)


def _keep(
    session: Session,
    patch: patches.NewPatch,
    *,
    job_id: str,
    model_id: str,
    status: JobStatus,
    now: datetime,
) -> None:
    patches.store(session, patch, job_id=job_id, model_id=model_id, now=now)
    drafts.settle(session, patch.sha256, job_id)
    if status is JobStatus.SUCCEEDED:
        parent = patch.manifest.model.parent
        models.publish(session, model_id, parent=parent, patch_id=patch.id, job_id=job_id, now=now)
