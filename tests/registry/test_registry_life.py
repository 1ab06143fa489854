"""The life of jobs, checked against a model of it that fits in memory.

Hypothesis plays requesters, two workers, a relay and a reaper in any order, with workers that
fall silent and come back; after every step the database must agree with the model and its laws.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from registry_examples import (
    PRINCIPAL,
    TENANT,
    accept,
    at,
    clear,
    new_patch,
    report,
    request,
    shelve,
)
from sqlalchemy import select

from api_schemas.jobs import FINAL, JobError, JobStatus, Outcome
from registry import audit, jobs, models, outbox
from registry.database import Database
from registry.errors import (
    IllegalTransition,
    JobFinished,
    JobSucceeded,
    JobUnfinished,
    LeaseLost,
    NotAwaitingApproval,
    PersonalDataGone,
)
from registry.tables import NO_DEADLINE, JobRow, OutboxRow, PatchRow
from registry.transitions import ALLOWED, CLAIMED

MODELS = ("clip-a", "clip-b")
LEASE_SECONDS = 15
MAX_ATTEMPTS = 2
ENDINGS = {
    Outcome.PATCHED: JobStatus.SUCCEEDED,
    Outcome.NOTHING_TO_FORGET: JobStatus.SUCCEEDED,
    Outcome.GATE_REFUSED: JobStatus.REJECTED,
    Outcome.ERROR: JobStatus.FAILED,
    Outcome.CANCELED: JobStatus.CANCELED,
}


@dataclass
class Expected:
    """A job as the model knows it."""

    id: str
    model: str
    urgency: tuple[datetime, int, datetime, str]
    status: JobStatus
    asks: bool
    keeps: bool
    token: int = 0
    attempts: int = 0
    retries: int = 0
    approved: bool | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True)
class Claim:
    """What a worker holds in its hand, for ever, however old it is."""

    job_id: str
    token: int
    parent: int


class JobLife(RuleBasedStateMachine):
    """Every function of ``registry.jobs`` against ``Expected``."""

    database: Database

    @initialize()
    def empty(self) -> None:
        self.seconds = 0.0
        self.jobs: dict[str, Expected] = {}
        self.claims: list[Claim] = []
        self.published: dict[str, int] = dict.fromkeys(MODELS, 0)
        self.last_seen: dict[str, tuple[JobStatus, int, int, int]] = {}
        with self.database.transaction() as session:
            clear(session)
        shelve(self.database, *MODELS)

    @property
    def now(self) -> datetime:
        return at(self.seconds)

    def is_free(self, model: str) -> bool:
        return not any(j.model == model and j.status in CLAIMED for j in self.jobs.values())

    def is_current(self, claim: Claim) -> bool:
        job = self.jobs[claim.job_id]
        return job.token == claim.token and job.status in CLAIMED

    @rule(
        model=st.sampled_from(MODELS),
        priority=st.integers(-1, 1),
        due=st.none() | st.integers(0, 2),
        asks=st.booleans(),
        keeps=st.booleans(),
    )
    def accept(self, model: str, priority: int, due: int | None, asks: bool, keeps: bool) -> None:
        due_at = None if due is None else at(1000 + due)
        with self.database.transaction() as session:
            asked = request(model, priority=priority)
            job = accept(
                session,
                asked,
                due_at=due_at,
                now=self.now,
                approval_required=asks,
                retention_days=int(keeps),
            )
        urgency = (due_at or NO_DEADLINE, -priority, self.now, job.id)
        status = JobStatus.AWAITING_APPROVAL if asks else JobStatus.QUEUED
        self.jobs[job.id] = Expected(job.id, model, urgency, status, asks=asks, keeps=keeps)

    @rule(seconds=st.sampled_from([0.5, 7.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.seconds += seconds

    @precondition(lambda self: self.jobs)
    @rule(worker=st.sampled_from(["w1", "w2"]))
    def claim(self, worker: str) -> None:
        with self.database.transaction() as session:
            job = jobs.claim(session, worker=worker, lease_seconds=LEASE_SECONDS, now=self.now)
        waiting = [
            j for j in self.jobs.values() if j.status is JobStatus.QUEUED and self.is_free(j.model)
        ]
        if not waiting:
            assert job is None
            return
        expected = min(waiting, key=lambda j: j.urgency)
        expected.status = JobStatus.RUNNING
        expected.token += 1
        expected.attempts += 1
        expected.expires_at = at(self.seconds + LEASE_SECONDS)
        assert job is not None
        assert (job.id, job.token, job.attempts, job.lease_owner, job.lease_expires_at) == (
            expected.id,
            expected.token,
            expected.attempts,
            worker,
            expected.expires_at,
        )
        self.claims.append(Claim(job.id, job.token, self.published[expected.model]))

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), fraction=st.floats(0, 1))
    def heartbeat(self, data: st.DataObject, fraction: float) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        job = self.jobs[claim.job_id]

        def beat() -> bool:
            with self.database.transaction() as session:
                return jobs.heartbeat(
                    session,
                    claim.job_id,
                    claim.token,
                    lease_seconds=LEASE_SECONDS,
                    phase="fit",
                    fraction=fraction,
                    eta_seconds=None,
                    now=self.now,
                )

        if not self.is_current(claim):
            with pytest.raises(LeaseLost):
                beat()
            return
        assert beat() is (job.status is JobStatus.CANCELING)
        job.expires_at = at(self.seconds + LEASE_SECONDS)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(list(self.jobs.values())))

        def cancel() -> None:
            with self.database.transaction() as session:
                jobs.cancel(session, job.id, tenant=TENANT, principal=PRINCIPAL, now=self.now)

        if job.status in FINAL - {JobStatus.CANCELED}:
            with pytest.raises(JobFinished):
                cancel()
            return
        cancel()
        job.status = {
            JobStatus.AWAITING_APPROVAL: JobStatus.CANCELED,
            JobStatus.QUEUED: JobStatus.CANCELED,
            JobStatus.RUNNING: JobStatus.CANCELING,
        }.get(job.status, job.status)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), approves=st.booleans())
    def decide(self, data: st.DataObject, approves: bool) -> None:
        job = data.draw(st.sampled_from(list(self.jobs.values())))

        def decide() -> None:
            decision = jobs.approve if approves else jobs.decline
            who = {"tenant": TENANT, "principal": "key:lead"}
            with self.database.transaction() as session:
                decision(session, job.id, **who, reason=None, now=self.now)

        if job.status is not JobStatus.AWAITING_APPROVAL and job.approved is not approves:
            with pytest.raises(NotAwaitingApproval):
                decide()
            return
        decide()
        if job.status is JobStatus.AWAITING_APPROVAL:
            job.approved = approves
            job.status = JobStatus.QUEUED if approves else JobStatus.CANCELED

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(list(self.jobs.values())))

        def retry() -> None:
            who = {"tenant": TENANT, "principal": PRINCIPAL}
            with self.database.transaction() as session:
                jobs.retry(session, job.id, **who, stored=lambda _: True, now=self.now)

        if job.status is JobStatus.SUCCEEDED:
            with pytest.raises(JobSucceeded):
                retry()
        elif job.status is JobStatus.CANCELING or (job.status not in FINAL and not job.retries):
            with pytest.raises(JobUnfinished):
                retry()
        elif job.status in FINAL and not job.keeps:
            with pytest.raises(PersonalDataGone):
                retry()
        else:
            retry()
            if job.status in FINAL:
                waits = job.asks and not job.approved
                job.status = JobStatus.AWAITING_APPROVAL if waits else JobStatus.QUEUED
                job.approved = None if waits else job.approved
                job.retries += 1
                job.attempts = 0

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        job = self.jobs[claim.job_id]

        def give_back() -> None:
            with self.database.transaction() as session:
                jobs.give_back(session, claim.job_id, claim.token, now=self.now)

        if not self.is_current(claim):
            with pytest.raises(LeaseLost):
                give_back()
            return
        give_back()
        if job.status is JobStatus.CANCELING:
            job.status = JobStatus.CANCELED
        else:
            job.status = JobStatus.QUEUED
            job.attempts -= 1

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), outcome=st.sampled_from(list(ENDINGS)))
    def finish(self, data: st.DataObject, outcome: Outcome) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        job = self.jobs[claim.job_id]
        status = ENDINGS[outcome]

        def finish() -> jobs.Job:
            has_patch = outcome in {Outcome.PATCHED, Outcome.GATE_REFUSED}
            broken = JobError(code="out_of_memory", message="Use a smaller batch.", retryable=True)
            with self.database.transaction() as session:
                return jobs.finish(
                    session,
                    claim.job_id,
                    claim.token,
                    status=status,
                    outcome=outcome,
                    error=broken if outcome is Outcome.ERROR else None,
                    report=report(),
                    patch=new_patch(job.model, claim.parent) if has_patch else None,
                    now=self.now,
                )

        if not self.is_current(claim):
            with pytest.raises(LeaseLost):
                finish()
            return
        if status not in ALLOWED[job.status]:
            with pytest.raises(IllegalTransition):
                finish()
            return
        finished = finish()
        job.status = status
        self.published[job.model] += outcome is Outcome.PATCHED
        version = self.published[job.model] if outcome is Outcome.PATCHED else None
        assert finished.model_version == version

    @rule()
    def reap(self) -> None:
        with self.database.transaction() as session:
            reaped = jobs.reap(session, max_attempts=MAX_ATTEMPTS, now=self.now)
        taken: dict[JobStatus, list[str]] = {
            JobStatus.QUEUED: [],
            JobStatus.FAILED: [],
            JobStatus.CANCELED: [],
        }
        for job in self.jobs.values():
            if job.status not in CLAIMED or job.expires_at is None or job.expires_at > self.now:
                continue
            if job.status is JobStatus.CANCELING:
                job.status = JobStatus.CANCELED
            elif job.attempts < MAX_ATTEMPTS:
                job.status = JobStatus.QUEUED
            else:
                job.status = JobStatus.FAILED
            taken[job.status].append(job.id)
        assert sorted(reaped.requeued) == sorted(taken[JobStatus.QUEUED])
        assert sorted(reaped.dead_lettered) == sorted(taken[JobStatus.FAILED])
        assert sorted(reaped.canceled) == sorted(taken[JobStatus.CANCELED])

    @rule(limit=st.integers(1, 3))
    def relay(self, limit: int) -> None:
        with self.database.transaction() as session:
            sent = outbox.pending(session, limit)
            outbox.mark_sent(session, [message.id for message in sent], self.now)

    @rule()
    def resend(self) -> None:
        with self.database.transaction() as session:
            outbox.resend(session, after_seconds=5, limit=10, now=self.now)

    @invariant()
    def rows_agree_with_the_model_and_moves_are_monotone(self) -> None:
        with self.database.transaction() as session:
            rows = session.scalars(select(JobRow)).all()
        found = {row.id: (row.status, row.token, row.attempts, row.retries) for row in rows}
        assert found == {
            j.id: (j.status, j.token, j.attempts, j.retries) for j in self.jobs.values()
        }
        for row in rows:
            expected = self.jobs[row.id]
            claimed = expected.status in CLAIMED
            assert row.lease_expires_at == (expected.expires_at if claimed else None)
        for job_id, (status, token, attempts, retries) in self.last_seen.items():
            new_status, new_token, new_attempts, new_retries = found[job_id]
            assert new_status is status or new_status in ALLOWED[status]
            assert token <= new_token <= token + 1
            if new_retries > retries:
                assert (new_attempts, new_token, status in FINAL) == (0, token, True)
            elif status in CLAIMED and new_status is JobStatus.QUEUED:
                assert new_attempts in {attempts, attempts - 1}
            else:
                assert new_attempts - attempts == new_token - token
        self.last_seen = found

    @invariant()
    def one_claimed_job_per_model(self) -> None:
        for model in MODELS:
            held = [j for j in self.jobs.values() if j.model == model and j.status in CLAIMED]
            assert len(held) <= 1

    @invariant()
    def no_queued_job_is_without_a_message(self) -> None:
        with self.database.transaction() as session:
            unsent = set(session.scalars(select(OutboxRow.job_id)))
            sent = set(
                session.scalars(select(JobRow.id).where(JobRow.message_sent_at.is_not(None)))
            )
        queued = {j.id for j in self.jobs.values() if j.status is JobStatus.QUEUED}
        assert queued <= unsent | sent

    @invariant()
    def versions_form_a_line(self) -> None:
        with self.database.transaction() as session:
            current = PatchRow.replaced_at.is_(None)
            stored = session.execute(select(PatchRow.id, PatchRow.job_id).where(current)).all()
            for model in MODELS:
                line = models.versions(session, model)
                assert [v.number for v in line] == list(range(self.published[model] + 1))
                assert [v.parent for v in line] == [None, *range(self.published[model])]
                made_by = [v.job_id for v in line[1:]]
                assert len(set(made_by)) == len(made_by)
                assert all(self.jobs[j or ""].status is JobStatus.SUCCEEDED for j in made_by)
        assert len({job_id for _, job_id in stored}) == len(stored)

    def teardown(self) -> None:
        """Every end is in the audit log, each once, and the ids of its lines grow."""
        with self.database.transaction() as session:
            lines = audit.entries(session, limit=10_000)
        assert [line.id for line in lines] == sorted({line.id for line in lines})
        names = {"job.declined", *(f"job.{status}" for status in FINAL)}
        ends = [line.object_id for line in lines if line.action in names]
        again = [line.object_id for line in lines if line.action == "job.retried"]
        final = [j.id for j in self.jobs.values() if j.status in FINAL]
        assert sorted(ends) == sorted([*again, *final])


def test_life_of_jobs(database: Database, request: pytest.FixtureRequest) -> None:
    kind = request.node.callspec.params["database"]
    run_state_machine_as_test(
        type("JobLifeHere", (JobLife,), {"database": database}),
        settings=settings(
            max_examples=25 if kind == "sqlite" else 10,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
