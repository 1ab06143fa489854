"""Approval by somebody else, deadlines put off as the law has it, and running again."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import registry_examples
from hypothesis import given
from hypothesis import strategies as st
from registry_examples import (
    PRINCIPAL,
    START,
    TENANT,
    at,
    claim,
    new_patch,
    report,
    request,
    shelve,
    succeed,
)
from sqlalchemy import select
from sqlalchemy.orm import Session

from api_schemas.deadlines import calendar_months_after, extended_deadline, statutory_deadline
from api_schemas.jobs import JobStatus, Outcome
from api_schemas.reasons import ApprovalReason, DeclineReason, ExtensionReason
from api_schemas.reports import Verdict
from api_schemas.requests import Regulation
from registry import audit, jobs, outbox, patches
from registry.database import Database
from registry.errors import (
    AlreadyExtended,
    DeadlinePassed,
    ExtensionOutOfRange,
    JobFinished,
    JobNotFound,
    JobSucceeded,
    JobUnfinished,
    NotAwaitingApproval,
    NotExtendable,
    OwnRequest,
    PersonalDataGone,
    PicturesGone,
)
from registry.tables import OutboxRow

LEAD = "key:lead"
#: Requests whose names and pictures outlive the job's end.
accept = functools.partial(registry_examples.accept, retention_days=30)


def waiting(session: Session) -> str:
    return accept(session, approval_required=True, due_at=at(9)).id


def approve(session: Session, job_id: str, who: str = LEAD, tenant: str = TENANT) -> jobs.Job:
    reason = ApprovalReason.IDENTITY_VERIFIED
    return jobs.approve(session, job_id, tenant=tenant, principal=who, reason=reason, now=at(1))


def decline(session: Session, job_id: str, who: str = LEAD, tenant: str = TENANT) -> jobs.Job:
    reason = DeclineReason.NOT_ENTITLED
    return jobs.decline(session, job_id, tenant=tenant, principal=who, reason=reason, now=at(1))


def cancel(session: Session, job_id: str) -> jobs.Job:
    return jobs.cancel(session, job_id, tenant=TENANT, principal=PRINCIPAL, now=at(2))


def retry(
    session: Session, job_id: str, stored: Callable[[str], bool] = lambda _: True
) -> jobs.Job:
    return jobs.retry(session, job_id, tenant=TENANT, principal=PRINCIPAL, stored=stored, now=at(3))


def extend(
    session: Session,
    job_id: str,
    until: datetime | None = None,
    now: datetime = START,
    reason: ExtensionReason = ExtensionReason.COMPLEXITY,
) -> jobs.Job:
    return jobs.extend(
        session, job_id, tenant=TENANT, principal=PRINCIPAL, reason=reason, until=until, now=now
    )


def lines(session: Session, job_id: str) -> list[str]:
    return [line.action for line in audit.entries(session, object_id=job_id)]


def messages(session: Session) -> list[str]:
    return list(session.scalars(select(OutboxRow.job_id)))


def test_nothing_is_sent_or_claimed_before_approval(database: Database) -> None:
    shelve(database, "clip-a")
    with database.transaction() as session:
        job_id = waiting(session)
        assert messages(session) == []
        assert claim(session) is None
        assert outbox.resend(session, after_seconds=0, limit=9, now=at(10**6)) == 0
        assert jobs.get(session, job_id).approval == jobs.record.Decision(None, None, None)
        assert jobs.counts(session, now=at(10)).overdue == 1, "the clock runs from the receipt"
        first = approve(session, job_id)
        assert (first.status, messages(session)) == (JobStatus.QUEUED, [job_id])
        assert approve(session, job_id, "key:other") == first
        assert messages(session) == [job_id]
        taken = claim(session)
        assert taken is not None
        assert taken.id == job_id
        assert lines(session, job_id) == ["job.accepted", "job.approved", "job.claimed"]


def test_a_declined_job_is_canceled_and_says_so(database: Database) -> None:
    shelve(database, "clip-a")
    with database.transaction() as session:
        job_id = waiting(session)
        job = decline(session, job_id)
        assert (job.status, job.outcome) == (JobStatus.CANCELED, Outcome.DECLINED)
        assert job.approval == jobs.record.Decision(False, DeclineReason.NOT_ENTITLED, at(1))
        assert decline(session, job_id, "key:other") == job
        with pytest.raises(NotAwaitingApproval):
            approve(session, job_id)
        assert messages(session) == []
        assert lines(session, job_id) == ["job.accepted", "job.declined"]


@pytest.mark.parametrize("decide", [approve, decline])
def test_nobody_decides_on_their_own_or_on_another_tenants_request(
    database: Database, decide: Callable[..., jobs.Job]
) -> None:
    shelve(database, "clip-a")
    with database.transaction() as session:
        job_id = waiting(session)
        with pytest.raises(OwnRequest):
            decide(session, job_id, PRINCIPAL)
        with pytest.raises(JobNotFound):
            decide(session, job_id, LEAD, "tenant-b")
        assert jobs.get(session, job_id).status is JobStatus.AWAITING_APPROVAL
        plain = accept(session).id
        with pytest.raises(NotAwaitingApproval):
            decide(session, plain)
        cancel(session, job_id)
        with pytest.raises(NotAwaitingApproval):
            decide(session, job_id)


def test_no_way_around_the_approval_by_a_retry(database: Database) -> None:
    shelve(database, "clip-a")
    with database.transaction() as session:
        for end in (cancel, decline):
            job_id = waiting(session)
            end(session, job_id)
            again = retry(session, job_id)
            assert (again.status, again.retries) == (JobStatus.AWAITING_APPROVAL, 1)
            assert again.approval == jobs.record.Decision(None, None, None)
            assert messages(session) == []
        # The control: what was approved once needs no second approval.
        approve(session, job_id)
        cancel(session, job_id)
        assert retry(session, job_id).status is JobStatus.QUEUED


def test_a_rejected_job_runs_again_as_itself_and_its_candidate_is_kept(database: Database) -> None:
    shelve(database, "clip-a")
    with database.transaction() as session:
        job_id = accept(session, due_at=at(100)).id
        first = reject(session)
        again = retry(session, job_id)
        assert (again.id, again.status, again.attempts) == (job_id, JobStatus.QUEUED, 0)
        assert (again.outcome, again.verdict, again.finished_at) == (None, None, None)
        assert (again.patch_id, again.has_report, again.due_at) == (None, False, at(100))
        assert again.token == first.token
        assert retry(session, job_id) == again, "sent twice, run once"
        assert messages(session).count(job_id) == 2
        assert patches.get(session, first.patch_id or "", TENANT).job_id == job_id
        job = claim(session)
        assert job is not None
        done = succeed(session, job)
        assert (done.model_version, done.patch_id == first.patch_id) == (1, False)
        with pytest.raises(JobSucceeded):
            retry(session, job_id)


def reject(session: Session) -> jobs.Job:
    job = claim(session)
    assert job is not None
    return jobs.finish(
        session,
        job.id,
        job.token,
        status=JobStatus.REJECTED,
        outcome=Outcome.GATE_REFUSED,
        report=report(Verdict.FAIL),
        patch=new_patch(),
        now=at(2),
    )


def test_what_cannot_run_again_says_why(database: Database) -> None:
    shelve(database, "clip-a")
    with database.transaction() as session:
        job_id = accept(session, samples=["c" * 64, "d" * 64]).id
        with pytest.raises(JobUnfinished):
            retry(session, job_id)
        cancel(session, job_id)
        with pytest.raises(PicturesGone):
            retry(session, job_id, lambda digest: digest[0] == "c")
        bare = cancel(session, accept(session, samples=[]).id)
        with pytest.raises(PicturesGone):
            retry(session, bare.id)
        forgotten = cancel(session, accept(session, retention_days=0).id)
        with pytest.raises(PersonalDataGone):
            retry(session, forgotten.id)
        with pytest.raises(JobNotFound):
            jobs.retry(session, job_id, tenant="tenant-b", principal="x", stored=bool, now=at(3))
        retry(session, job_id)
        claim(session)
        cancel(session, job_id)
        with pytest.raises(JobUnfinished):
            retry(session, job_id)


@pytest.mark.parametrize(
    ("start", "months", "end"),
    [
        ("2026-01-31", 1, "2026-02-28"),
        ("2028-01-31", 1, "2028-02-29"),
        ("2026-01-31", 3, "2026-04-30"),
        ("2026-11-30", 3, "2027-02-28"),
        ("2027-11-30", 3, "2028-02-29"),
        ("2026-12-31", 1, "2027-01-31"),
        ("2026-12-15", 12, "2027-12-15"),
        ("2028-02-29", 12, "2029-02-28"),
        ("2026-05-15", 0, "2026-05-15"),
    ],
)
def test_calendar_months_end_on_the_same_day_or_the_months_last(
    start: str, months: int, end: str
) -> None:
    begun, ended = (datetime.fromisoformat(f"{day}T10:30:00+00:00") for day in (start, end))
    assert calendar_months_after(begun, months) == ended


@given(st.datetimes(datetime(1999, 1, 1), datetime(2400, 1, 1)), st.integers(0, 40))
def test_months_never_leave_their_month(moment: datetime, months: int) -> None:
    begun = moment.replace(tzinfo=UTC)
    ended = calendar_months_after(begun, months)
    assert ended.year * 12 + ended.month == begun.year * 12 + begun.month + months
    assert ended.day == begun.day or (
        ended.day < begun.day and (ended + timedelta(days=1)).day == 1
    )
    assert ended.timetz() == begun.timetz()


def test_the_law_is_counted_from_the_receipt() -> None:
    begun = datetime(2026, 1, 31, 8, tzinfo=UTC)
    assert statutory_deadline(Regulation.GDPR, begun) == datetime(2026, 2, 28, 8, tzinfo=UTC)
    assert extended_deadline(Regulation.GDPR, begun) == datetime(2026, 4, 30, 8, tzinfo=UTC)
    assert extended_deadline(Regulation.CCPA, begun) == begun + timedelta(days=90)
    assert extended_deadline(Regulation.NONE, begun) is None


def asked(session: Session, regulation: Regulation, due_at: datetime | None = None) -> jobs.Job:
    due = due_at or statutory_deadline(regulation, START)
    return accept(session, request(regulation=regulation), due_at=due)


def test_an_extension_moves_deadline_and_queue_once(database: Database) -> None:
    shelve(database, "clip-a")
    with database.transaction() as session:
        gdpr, ccpa = asked(session, Regulation.GDPR), asked(session, Regulation.CCPA)
        limit = extended_deadline(Regulation.GDPR, START)
        job = extend(session, gdpr.id)
        assert (job.due_at, job.extended_from) == (limit, gdpr.due_at)
        assert job.extension_reason is ExtensionReason.COMPLEXITY
        assert extend(session, gdpr.id) == job, "asked for again, nothing changes"
        for change in ({"reason": ExtensionReason.NUMBER_OF_REQUESTS}, {"until": at(10**6)}):
            with pytest.raises(AlreadyExtended):
                extend(session, gdpr.id, **change)  # type: ignore[arg-type]
        assert lines(session, gdpr.id) == ["job.accepted", "job.extended"]
        first = claim(session)
        assert first is not None
        assert first.id == ccpa.id, "the job whose deadline moved goes later"


@pytest.mark.parametrize("regulation", [Regulation.GDPR, Regulation.CCPA])
def test_no_extension_beyond_the_law(database: Database, regulation: Regulation) -> None:
    shelve(database, "clip-a")
    first, limit = (
        deadline(regulation, START) for deadline in (statutory_deadline, extended_deadline)
    )
    assert first is not None
    assert limit is not None
    second = timedelta(seconds=1)
    with database.transaction() as session:
        job = asked(session, regulation)
        for until in (limit + second, first, first - second):
            with pytest.raises(ExtensionOutOfRange):
                extend(session, job.id, until)
        with pytest.raises(DeadlinePassed):
            extend(session, job.id, now=first + second)
        assert extend(session, job.id, limit, now=first).due_at == limit
        early = asked(session, regulation, due_at=at(60))
        assert extend(session, early.id, at(120), now=at(90)).extended_from == at(60)


def test_nothing_to_extend_without_a_law_or_after_the_end(database: Database) -> None:
    shelve(database, "clip-a")
    with database.transaction() as session:
        with pytest.raises(NotExtendable):
            extend(session, asked(session, Regulation.NONE, due_at=at(9)).id)
        job = cancel(session, asked(session, Regulation.GDPR).id)
        with pytest.raises(JobFinished):
            extend(session, job.id)
