"""Requests of the OpenDSR facade: which job each stands for, and who is yet to be told of it.

A request's status is never stored: it follows from its job. What is stored is what was last told
to each address, so that a change which nobody was told of cannot be lost in a crash.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    String,
    case,
    delete,
    func,
    insert,
    select,
    type_coerce,
    update,
)
from sqlalchemy.orm import Session

from api_schemas.deadlines import statutory_deadline
from api_schemas.jobs import FINAL, JobError, JobStatus, Outcome
from api_schemas.opendsr import Law, Standing
from api_schemas.requests import Regulation
from registry import jobs
from registry.errors import SubjectRequestNotFound, SubjectRequestNotPending
from registry.inserts import insert_if_absent
from registry.jobs import record
from registry.tables import CallbackRow, JobRow, SubjectRequestRow

#: While one front posts a notice, no other does; longer than a round of posts takes.
CLAIM_SECONDS: Final = 120.0
#: The pause after the n-th failure is FIRST x 2^(n-1), at most LONGEST; after LAST, none follows.
FIRST_PAUSE_SECONDS: Final = 5.0
LONGEST_PAUSE_SECONDS: Final = 3600.0
#: Some thirty days, the time in which the law wants the request done: by then the controller asks.
LAST_ATTEMPT: Final = 730

#: Nothing to forget is an end with success: the model does not know the person.
_DONE: Final = (Outcome.PATCHED, Outcome.NOTHING_TO_FORGET)
#: After these words there is nothing more to tell.
_LAST_WORDS: Final = (Standing.COMPLETED, Standing.CANCELLED)

#: The one place that says what a job's state means for its request. What a worker has begun is
#: never pending again, even if it waits for another worker: the platform may no longer cancel it.
#: The token says so, because it only grows: with every claim, also when a job is run again.
STANDING: Final[ColumnElement[str]] = case(
    (JobRow.status == JobStatus.CANCELED, Standing.CANCELLED.value),
    (JobRow.outcome.in_(_DONE), Standing.COMPLETED.value),
    (JobRow.status.in_(FINAL), Standing.STOPPED.value),
    (JobRow.token > 0, Standing.IN_PROGRESS.value),
    else_=Standing.PENDING.value,
)

#: An address was told something else than what is the case.
_NEWS: Final[ColumnElement[bool]] = (
    type_coerce(CallbackRow.told_standing, String) != STANDING
) | CallbackRow.told_due_at.is_distinct_from(JobRow.due_at)


@dataclass(frozen=True, slots=True)
class Case:
    """One request and where its job stands now."""

    tenant: str
    subject_request_id: str
    job_id: str
    body_sha256: str
    regulation: Law
    received_at: datetime
    #: When it was expected to be done, as the controller was told first.
    expected_at: datetime
    standing: Standing
    outcome: Outcome | None
    error: JobError | None
    due_at: datetime | None
    finished_at: datetime | None

    @property
    def expected_completion_at(self) -> datetime:
        """The deadline; what has stopped without success is given the law's time once more."""
        expected = self.due_at or self.expected_at
        if self.standing is Standing.STOPPED and self.finished_at is not None:
            again = statutory_deadline(Regulation(self.regulation.value), self.finished_at)
            return expected if again is None else max(expected, again)
        return expected


@dataclass(frozen=True, slots=True)
class Notice:
    """What an address has to be told. The address is left out of the repr: it may be a secret."""

    callback_id: int
    url: str = field(repr=False)
    version: int
    attempts: int
    case: Case


def add(
    session: Session,
    job: jobs.Job,
    *,
    subject_request_id: str,
    body_sha256: str,
    regulation: Law,
    callback_urls: Sequence[str],
    version: int,
) -> bool:
    """The request stands for this job; False = the id stands for another one, nothing is written.

    Of two requests at the same moment one waits for the other's commit, then gets False. Each
    address counts as told what the answer to the request says.
    """
    assert job.due_at is not None, "both laws set a deadline"
    values = {
        "tenant": job.tenant,
        "subject_request_id": subject_request_id,
        "job_id": job.id,
        "body_sha256": body_sha256,
        "regulation": regulation,
        "received_at": job.created_at,
        "expected_at": job.due_at,
    }
    if not insert_if_absent(session, SubjectRequestRow, values):
        return False
    rows = [
        {
            "tenant": job.tenant,
            "subject_request_id": subject_request_id,
            "url": url,
            "version": version,
            "told_standing": Standing.PENDING,
            "told_due_at": job.due_at,
            "attempts": 0,
            "next_attempt_at": job.created_at,
        }
        for url in dict.fromkeys(callback_urls)
    ]
    if rows:
        session.execute(insert(CallbackRow), rows)
    return True


def find(session: Session, tenant: str, subject_request_id: str) -> Case | None:
    """The tenant's request with this id, or None."""
    return _first(
        session,
        SubjectRequestRow.tenant == tenant,
        SubjectRequestRow.subject_request_id == subject_request_id,
    )


def get(session: Session, tenant: str, subject_request_id: str) -> Case:
    """The tenant's request with this id. Raises ``SubjectRequestNotFound``."""
    found = find(session, tenant, subject_request_id)
    if found is None:
        raise SubjectRequestNotFound(subject_request_id)
    return found


def cancel(
    session: Session, tenant: str, subject_request_id: str, *, principal: str, now: datetime
) -> Case:
    """The request is cancelled, and its job with it: no worker will begin it.

    Raises ``SubjectRequestNotFound``; ``SubjectRequestNotPending`` when a worker has begun it, or
    it has ended.
    """
    job_id = get(session, tenant, subject_request_id).job_id
    record.lock(session, job_id)
    # Asked again under the lock: a worker may have taken the job meanwhile.
    if get(session, tenant, subject_request_id).standing is not Standing.PENDING:
        raise SubjectRequestNotPending(subject_request_id)
    jobs.cancel(session, job_id, tenant=tenant, principal=principal, now=now)
    return get(session, tenant, subject_request_id)


def waiting(session: Session) -> int:
    """How many addresses have yet to be told what is the case now."""
    query = (
        select(func.count())
        .select_from(CallbackRow)
        .join(SubjectRequestRow, _of_request())
        .join(JobRow, JobRow.id == SubjectRequestRow.job_id)
        .where(_NEWS)
    )
    return session.scalar(query) or 0


def claim_notices(session: Session, *, limit: int, now: datetime) -> list[Notice]:
    """Who has to be told what now, the longest waiting first; each is the caller's for a while.

    A front that dies before :func:`told` leaves them for the next round after ``CLAIM_SECONDS``.
    """
    query = (
        _cases(CallbackRow)
        .join(CallbackRow, _of_request())
        .where(CallbackRow.next_attempt_at <= now, _NEWS)
        .order_by(CallbackRow.next_attempt_at, CallbackRow.id)
        .limit(limit)
        .with_for_update(of=CallbackRow, skip_locked=True)
    )
    found = session.execute(query).all()
    notices = [
        Notice(
            callback_id=row.CallbackRow.id,
            url=row.CallbackRow.url,
            version=row.CallbackRow.version,
            attempts=row.CallbackRow.attempts,
            case=_case(row),
        )
        for row in found
    ]
    _set(
        session,
        [notice.callback_id for notice in notices],
        next_attempt_at=now + timedelta(seconds=CLAIM_SECONDS),
    )
    return notices


def told(session: Session, notice: Notice, now: datetime) -> None:
    """The address knows; after the last word it is forgotten. Idempotent."""
    if notice.case.standing in _LAST_WORDS:
        _forget(session, notice)
        return
    _set(
        session,
        [notice.callback_id],
        told_standing=notice.case.standing,
        told_due_at=notice.case.due_at,
        attempts=0,
        next_attempt_at=now,
    )


def not_told(session: Session, notice: Notice, now: datetime) -> bool:
    """The address is tried again later; False = it was tried for the last time and is forgotten."""
    attempts = notice.attempts + 1
    if attempts >= LAST_ATTEMPT:
        _forget(session, notice)
        return False
    # The exponent is capped first: 2.0 ** 1100 would raise.
    pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(attempts - 1, 20))
    following = now + timedelta(seconds=pause)
    _set(session, [notice.callback_id], attempts=attempts, next_attempt_at=following)
    return True


def _set(session: Session, callback_ids: Sequence[int], **values: object) -> None:
    session.execute(
        update(CallbackRow)
        .where(CallbackRow.id.in_(callback_ids))
        .values(**values)
        .execution_options(synchronize_session=False)
    )


def _forget(session: Session, notice: Notice) -> None:
    session.execute(
        delete(CallbackRow)
        .where(CallbackRow.id == notice.callback_id)
        .execution_options(synchronize_session=False)
    )


def _of_request() -> ColumnElement[bool]:
    return (CallbackRow.tenant == SubjectRequestRow.tenant) & (
        CallbackRow.subject_request_id == SubjectRequestRow.subject_request_id
    )


def _cases(*more: Any) -> Any:
    return (
        select(
            SubjectRequestRow,
            STANDING.label("standing"),
            JobRow.outcome,
            JobRow.error,
            JobRow.due_at,
            JobRow.finished_at,
            *more,
        )
        .select_from(SubjectRequestRow)
        .join(JobRow, JobRow.id == SubjectRequestRow.job_id)
        .execution_options(populate_existing=True)
    )


def _first(session: Session, *conditions: ColumnElement[bool]) -> Case | None:
    row = session.execute(_cases().where(*conditions)).first()
    return None if row is None else _case(row)


def _case(row: Any) -> Case:
    request: SubjectRequestRow = row.SubjectRequestRow
    return Case(
        tenant=request.tenant,
        subject_request_id=request.subject_request_id,
        job_id=request.job_id,
        body_sha256=request.body_sha256,
        regulation=request.regulation,
        received_at=request.received_at,
        expected_at=request.expected_at,
        standing=Standing(row.standing),
        outcome=row.outcome,
        error=row.error,
        due_at=row.due_at,
        finished_at=row.finished_at,
    )
