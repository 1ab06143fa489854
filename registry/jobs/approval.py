"""Four eyes: a job that waits until somebody other than its requester has decided on it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy.orm import Session

from api_schemas.jobs import JobStatus, Outcome
from api_schemas.reasons import ApprovalReason, DeclineReason
from registry import audit, outbox
from registry.errors import NotAwaitingApproval, OwnRequest
from registry.jobs import record
from registry.jobs.moves import QUEUED_PHASE, move
from registry.jobs.record import Job
from registry.tables import JobRow

#: What a job that nobody has decided on yet holds in its row.
UNDECIDED: Final[dict[str, object]] = {
    "approved": None,
    "decided_at": None,
    "decision_reason": None,
}


def approve(
    session: Session,
    job_id: str,
    *,
    tenant: str,
    principal: str,
    reason: ApprovalReason | None,
    now: datetime,
) -> Job:
    """The job is queued, with its message; one that was approved before is left as it stands.

    Raises ``JobNotFound``; ``NotAwaitingApproval`` when it never asked for approval, or was
    declined or canceled; ``OwnRequest`` when the approver made the request.
    """
    row = _decidable(session, job_id, tenant=tenant, principal=principal, as_approved=True)
    if row.approved is None:
        decision: dict[str, Any] = {"approved": True, "decided_at": now, "decision_reason": reason}
        start: dict[str, Any] = {"phase": QUEUED_PHASE}
        move(session, job_id, row.status, JobStatus.QUEUED, now=now, **start, **decision)
        outbox.enqueue(session, [job_id], now)
        _note(session, row, "job.approved", principal=principal, reason=reason, now=now)
    return record.get(session, job_id)


def decline(
    session: Session,
    job_id: str,
    *,
    tenant: str,
    principal: str,
    reason: DeclineReason | None,
    now: datetime,
) -> Job:
    """The job is canceled, outcome ``declined``; one that was declined before is left as it is.

    Raises what ``approve`` raises; ``NotAwaitingApproval`` also when the job was approved.
    """
    row = _decidable(session, job_id, tenant=tenant, principal=principal, as_approved=False)
    if row.approved is None:
        decision: dict[str, Any] = {"approved": False, "decided_at": now, "decision_reason": reason}
        end: dict[str, Any] = {"outcome": Outcome.DECLINED, "finished_at": now}
        move(session, job_id, row.status, JobStatus.CANCELED, now=now, **end, **decision)
        _note(session, row, "job.declined", principal=principal, reason=reason, now=now)
    return record.get(session, job_id)


def _decidable(
    session: Session, job_id: str, *, tenant: str, principal: str, as_approved: bool
) -> JobRow:
    """The locked row of a job that waits, or that was decided the same way before."""
    row = record.lock(session, job_id, tenant)
    if row.approved is not as_approved and row.status is not JobStatus.AWAITING_APPROVAL:
        raise NotAwaitingApproval(job_id)
    if row.principal == principal:
        raise OwnRequest(job_id)
    return row


def _note(
    session: Session,
    row: JobRow,
    action: str,
    *,
    principal: str,
    reason: ApprovalReason | DeclineReason | None,
    now: datetime,
) -> None:
    audit.append(
        session,
        tenant=row.tenant,
        actor=principal,
        action=action,
        object_type="job",
        object_id=row.id,
        details={"reason": None if reason is None else reason.value},
        now=now,
    )
