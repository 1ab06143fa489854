"""Putting a legal deadline off, once and no further than its law allows."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import update
from sqlalchemy.orm import Session

from api_schemas.deadlines import extended_deadline, statutory_deadline
from api_schemas.reasons import ExtensionReason
from registry import audit
from registry.errors import (
    AlreadyExtended,
    DeadlinePassed,
    ExtensionOutOfRange,
    JobFinished,
    NotExtendable,
)
from registry.jobs import record
from registry.jobs.record import Job
from registry.tables import JobRow


def extend(
    session: Session,
    job_id: str,
    *,
    tenant: str,
    principal: str,
    reason: ExtensionReason,
    until: datetime | None,
    now: datetime,
) -> Job:
    """The job is due at ``until`` (None = the latest that the law allows), and queued accordingly.

    The deadline before stays on record. The same extension asked for again changes nothing. Raises
    ``JobNotFound``, ``JobFinished``; ``NotExtendable`` where no law set the deadline;
    ``AlreadyExtended``; ``DeadlinePassed`` once the law's first deadline is over, because whoever
    asked must be told before; ``ExtensionOutOfRange``.
    """
    row = record.lock(session, job_id, tenant)
    regulation = row.request.regulation
    limit = extended_deadline(regulation, row.created_at)
    first = statutory_deadline(regulation, row.created_at)
    if limit is None or first is None or row.due_at is None:
        raise NotExtendable(job_id)
    wanted = limit if until is None else until
    if row.extended_from is not None:
        if (row.extension_reason, row.due_at) == (reason, wanted):
            return record.get(session, job_id)
        raise AlreadyExtended(job_id)
    if row.status.is_final:
        raise JobFinished(job_id, row.status)
    if now > first:
        raise DeadlinePassed(job_id)
    if not row.due_at < wanted <= limit:
        raise ExtensionOutOfRange(job_id)
    before = row.due_at
    session.execute(
        update(JobRow)
        .where(JobRow.id == job_id)
        .values(due_at=wanted, queue_due=wanted, extended_from=before, extension_reason=reason)
        .execution_options(synchronize_session=False)
    )
    audit.append(
        session,
        tenant=row.tenant,
        actor=principal,
        action="job.extended",
        object_type="job",
        object_id=job_id,
        details={
            "reason": reason.value,
            "regulation": regulation.value,
            "from": before.isoformat(),
            "to": wanted.isoformat(),
        },
        now=now,
    )
    return record.get(session, job_id)
