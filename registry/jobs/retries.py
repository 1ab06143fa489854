"""Running a job again: after an end that was no success, or because its base was revoked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from api_schemas.jobs import JobStatus, Outcome
from registry import audit, outbox, patches
from registry.errors import (
    JobSucceeded,
    JobUnfinished,
    LeaseLost,
    PersonalDataGone,
    PicturesGone,
    SubjectRequestCancelled,
)
from registry.jobs import record
from registry.jobs.approval import UNDECIDED
from registry.jobs.moves import AWAITING_PHASE, QUEUED_PHASE, move
from registry.jobs.queue import wake_next
from registry.jobs.record import Job
from registry.tables import JobRow, SubjectRequestRow
from registry.transitions import CLAIMED

#: Whether the blob of this digest is still there.
Stored = Callable[[str], bool]


def retry(
    session: Session, job_id: str, *, tenant: str, principal: str, stored: Stored, now: datetime
) -> Job:
    """A job that failed, was rejected or was canceled runs again under its id, attempts from 0.

    The same method, seed and pictures: what the gate refused it will refuse again unless the
    model's line or its retain set changed. Deadline and token stay. A candidate is kept under its
    patch id and belongs to the job no more; the report goes. A job that was never approved waits
    for approval. Idempotent until the new run ends: a job under way because of a retry is left as
    it is. Raises ``JobNotFound``, ``JobSucceeded``, ``JobUnfinished``; ``SubjectRequestCancelled``
    when a controller was told that it is cancelled, which nobody may undo behind its back;
    ``PersonalDataGone`` once nothing of whom it is about is kept; ``PicturesGone`` where files are
    lost.
    """
    row = record.lock(session, job_id, tenant)
    was = row.status
    if was is JobStatus.SUCCEEDED:
        raise JobSucceeded(job_id)
    if not was.is_final:
        if row.retries and was is not JobStatus.CANCELING:
            return record.get(session, job_id)
        raise JobUnfinished(job_id)
    if was is JobStatus.CANCELED and _is_subject_request(session, job_id):
        raise SubjectRequestCancelled(job_id)
    if record.get(session, job_id).data_key is None:
        raise PersonalDataGone(job_id)
    if not pictures_stored([*row.samples, *row.probe_samples], stored):
        raise PicturesGone(job_id)
    waits = row.approval_required and not row.approved
    _begin_anew(session, row, waits=waits, now=now)
    patches.replace(session, job_id, now=now)
    if not waits:
        outbox.enqueue(session, [job_id], now)
    audit.append(
        session,
        tenant=row.tenant,
        actor=principal,
        action="job.retried",
        object_type="job",
        object_id=job_id,
        details={"was": was.value, "retry": row.retries + 1},
        now=now,
    )
    return record.get(session, job_id)


def _is_subject_request(session: Session, job_id: str) -> bool:
    query = select(SubjectRequestRow.job_id).where(SubjectRequestRow.job_id == job_id)
    return session.scalar(query) is not None


def pictures_stored(digests: Sequence[str], stored: Stored) -> bool:
    """Whether a run with these pictures is possible: there are some, and none is gone."""
    return bool(digests) and all(stored(digest) for digest in digests)


def give_back(session: Session, job_id: str, token: int, *, now: datetime) -> Job:
    """A claimed job waits again, at no cost of an attempt: the version it built on was revoked.

    One that is to be canceled is canceled. Raises ``LeaseLost`` when this claim is not the current
    one.
    """
    row = record.lock(session, job_id)
    if row.token != token or row.status not in CLAIMED:
        raise LeaseLost(job_id, token)
    if row.status is JobStatus.CANCELING:
        action = "job.canceled"
        end: dict[str, Any] = {"outcome": Outcome.CANCELED, "finished_at": now}
        move(session, job_id, row.status, JobStatus.CANCELED, now=now, **end)
    else:
        action = "job.requeued"
        start: dict[str, Any] = {"phase": QUEUED_PHASE, "fraction": 0.0, "resends": 0}
        start["attempts"] = row.attempts - 1
        move(session, job_id, row.status, JobStatus.QUEUED, now=now, **start)
        outbox.enqueue(session, [job_id], now)
    wake_next(session, row.model_id, now)
    audit.append(
        session,
        tenant=row.tenant,
        actor=f"worker:{row.lease_owner}",
        action=action,
        object_type="job",
        object_id=job_id,
        details={"reason": "base_revoked"},
        now=now,
    )
    return record.get(session, job_id)


def _begin_anew(session: Session, row: JobRow, *, waits: bool, now: datetime) -> None:
    gone = dict.fromkeys(("outcome", "verdict", "error", "report", "started_at", "finished_at"))
    values: dict[str, Any] = {
        **gone,
        **(UNDECIDED if waits else {}),
        "phase": AWAITING_PHASE if waits else QUEUED_PHASE,
        "fraction": 0.0,
        "attempts": 0,
        "resends": 0,
        "message_sent_at": None,
        "retries": row.retries + 1,
    }
    new = JobStatus.AWAITING_APPROVAL if waits else JobStatus.QUEUED
    moved = move(session, row.id, row.status, new, now=now, **values)
    assert moved, "a locked job stays where it is"
