"""A registry under chance: whoever may call it does, in any order, and the clock cannot be trusted.

The machine keeps its own small account of what every answer must have meant. After each step the
database is read as a whole and held against the laws.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from registry_examples import START, TENANT, accept, clear, new_patch, report, request, shelve
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api_schemas.jobs import JobError, JobStatus, Outcome
from api_schemas.reasons import RevocationReason
from api_schemas.reports import Verdict
from evidence import lines, merkle
from registry import audit, idempotency, jobs, models, outbox, revoking
from registry.database import Database
from registry.errors import (
    JobFinished,
    JobSucceeded,
    JobUnfinished,
    LeaseLost,
    NotAwaitingApproval,
    StaleParent,
    VersionWithdrawn,
)
from registry.tables import JobEventRow, JobRow, OutboxRow, PatchRow, VersionRow
from registry.transitions import ALLOWED, CLAIMED

MODELS = ("clip-a", "clip-b")
WORKERS = ("w1", "w2")
MAX_ATTEMPTS = 3
LEASE_SECONDS = 15
RESEND_SECONDS = 30
ERROR = JobError(code="internal", message="It stopped.", retryable=True)
#: Any earlier claim, any job, any version: an index that is cut to what there is.
ANY = st.integers(0, 99)


@dataclass(frozen=True)
class Seen:
    """A job as the last step left it."""

    model: str
    status: JobStatus
    token: int
    attempts: int


class Crashed(Exception):
    """The process died before its commit."""


class Registry(RuleBasedStateMachine):
    """Requesters, approvers, an operator, a relay, a reaper, and two workers that may come back."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database = database
        with database.transaction() as session:
            clear(session)
        shelve(database, *MODELS)
        self.now = START
        #: What the laws know: jobs, claims in order, and how often each is said to have been begun.
        self.seen: dict[str, Seen] = {}
        self.claims: list[jobs.Job] = []
        self.attempts: Counter[str] = Counter()
        self.winners: dict[tuple[str, int], str] = {}
        self.keys: dict[int, str] = {}
        self.retried: set[str] = set()
        self.log: list[audit.Entry] = []

    # -- what requesters, approvers and operators do

    @rule(model=st.sampled_from(MODELS), approval=st.booleans(), key=st.integers(0, 3) | st.none())
    def submit(self, model: str, approval: bool, key: int | None) -> None:
        """A key stands for one job, whatever became of it; its second use is the same request."""
        known = None if key is None else idempotency.Key("POST /unlearn", f"k{key}", "f")
        with self.database.transaction() as session:
            job = accept(
                session,
                request(model),
                key=known,
                now=self.now,
                approval_required=approval,
                retention_days=3650,
            )
        if key is not None:
            assert self.keys.setdefault(key, job.id) == job.id

    @precondition(lambda self: self.seen)
    @rule(which=ANY)
    def cancel(self, which: int) -> None:
        job_id = self._job(which)
        before = self.seen[job_id].status
        try:
            with self.database.transaction() as session:
                job = jobs.cancel(session, job_id, tenant=TENANT, principal="p", now=self.now)
        except JobFinished:
            assert before.is_final
            assert before is not JobStatus.CANCELED
        else:
            wanted = JobStatus.CANCELING if before in CLAIMED else JobStatus.CANCELED
            assert job.status is wanted

    @precondition(lambda self: self.seen)
    @rule(which=ANY)
    def retry(self, which: int) -> None:
        job_id = self._job(which)
        before = self.seen[job_id].status
        try:
            with self.database.transaction() as session:
                jobs.retry(
                    session,
                    job_id,
                    tenant=TENANT,
                    principal="p",
                    stored=lambda _: True,
                    now=self.now,
                )
        except JobSucceeded:
            assert before is JobStatus.SUCCEEDED
        except JobUnfinished:
            assert not before.is_final
        else:
            if before.is_final:
                self.retried.add(job_id)
                self.attempts[job_id] = 0

    @precondition(lambda self: self._in(JobStatus.AWAITING_APPROVAL))
    @rule(which=ANY, yes=st.booleans())
    def decide(self, which: int, yes: bool) -> None:
        waiting = self._in(JobStatus.AWAITING_APPROVAL)
        job_id = waiting[which % len(waiting)]
        with self.database.transaction() as session:
            decision = jobs.approve if yes else jobs.decline
            job = decision(
                session, job_id, tenant=TENANT, principal="boss", reason=None, now=self.now
            )
        assert job.status is (JobStatus.QUEUED if yes else JobStatus.CANCELED)

    @precondition(lambda self: self.seen)
    @rule(which=ANY)
    def decide_too_late(self, which: int) -> None:
        """Whoever approves what was never asked for, or was settled, changes nothing."""
        job_id = self._job(which)
        if self.seen[job_id].status is JobStatus.AWAITING_APPROVAL:
            return
        try:
            with self.database.transaction() as session:
                jobs.approve(
                    session, job_id, tenant=TENANT, principal="boss", reason=None, now=self.now
                )
        except NotAwaitingApproval:
            pass

    @rule(model=st.sampled_from(MODELS), which=ANY)
    def revoke(self, model: str, which: int) -> None:
        with self.database.transaction() as session:
            made = [one.number for one in models.versions(session, model)][1:]
        if not made:
            return
        try:
            with self.database.transaction() as session:
                revoking.revoke(
                    session,
                    model,
                    made[which % len(made)],
                    tenant=None,
                    principal="operator",
                    reason=RevocationReason.WRONG_TARGET,
                    stored=lambda _: True,
                    now=self.now,
                )
        except VersionWithdrawn:
            pass

    # -- what workers do, in time or too late

    @rule(worker=st.sampled_from(WORKERS))
    def wake(self, worker: str) -> None:
        """Any message, also a second one for the same job, or one for a job that is over."""
        with self.database.transaction() as session:
            job = jobs.claim(session, worker=worker, lease_seconds=LEASE_SECONDS, now=self.now)
        if job is None:
            held = {self._model(job_id) for job_id in self._in(*CLAIMED)}
            free = [one for one in self._in(JobStatus.QUEUED) if self._model(one) not in held]
            assert not free, "a job waits, its model is free, and nobody gets it"
            return
        before = self.seen[job.id]
        assert before.status is JobStatus.QUEUED
        assert job.token > before.token
        assert (job.id, job.token) not in self.winners, "two workers hold one token"
        self.winners[job.id, job.token] = worker
        self.attempts[job.id] += 1
        self.claims.append(job)

    @precondition(lambda self: self.claims)
    @rule(which=ANY, fraction=st.floats(-1, 2))
    def beat(self, which: int, fraction: float) -> None:
        claim = self._claim(which)
        with self._only_if_current(claim), self.database.transaction() as session:
            stop = jobs.heartbeat(
                session,
                claim.id,
                claim.token,
                lease_seconds=LEASE_SECONDS,
                phase="edit",
                fraction=fraction,
                eta_seconds=None,
                now=self.now,
            )
            assert stop is (self.seen[claim.id].status is JobStatus.CANCELING)

    @precondition(lambda self: self.claims)
    @rule(
        which=ANY,
        ending=st.sampled_from(("patched", "refused", "nothing", "failed", "canceled")),
        old_base=st.booleans(),
        dies=st.booleans(),
    )
    def finish(self, which: int, ending: str, old_base: bool, dies: bool) -> None:
        """Also by a worker that was given up long ago, on a base that is none any more."""
        claim = self._claim(which)
        if ending == "canceled" and self.seen[claim.id].status is not JobStatus.CANCELING:
            return  # a worker only says so when it was asked to
        try:
            with self._only_if_current(claim), self.database.transaction() as session:
                _end(session, claim, ending, back=int(old_base), now=self.now)
                if dies:
                    raise Crashed
        except StaleParent:
            assert old_base
        except Crashed:
            pass

    @precondition(lambda self: self.claims)
    @rule(which=ANY)
    def give_back(self, which: int) -> None:
        claim = self._claim(which)
        with self._only_if_current(claim), self.database.transaction() as session:
            job = jobs.give_back(session, claim.id, claim.token, now=self.now)
            if job.status is JobStatus.QUEUED:
                self.attempts[claim.id] -= 1

    # -- what the service does in between

    @rule()
    def reap(self) -> None:
        with self.database.transaction() as session:
            reaped = jobs.reap(session, max_attempts=MAX_ATTEMPTS, now=self.now)
        for job_id in reaped.dead_lettered:
            assert self.attempts[job_id] >= MAX_ATTEMPTS
        for job_id in reaped.requeued:
            assert self.attempts[job_id] < MAX_ATTEMPTS

    @rule(dies=st.booleans())
    def relay(self, dies: bool) -> None:
        """Messages reach the broker, which may lose them; a relay that dies has marked nothing."""
        with self.database.transaction() as session:
            messages = outbox.pending(session, 100)
        if not dies:
            with self.database.transaction() as session:
                outbox.mark_sent(session, [message.id for message in messages], self.now)

    @rule()
    def resend(self) -> None:
        with self.database.transaction() as session:
            outbox.resend(session, after_seconds=RESEND_SECONDS, limit=100, now=self.now)

    @rule(seconds=st.sampled_from((1, LEASE_SECONDS, RESEND_SECONDS, 3600, -1, -60, -3600)))
    def jump(self, seconds: int) -> None:
        """Time passes, or a clock is set back."""
        self.now += timedelta(seconds=seconds)

    # -- laws

    @invariant()
    def the_laws_hold(self) -> None:
        self.jobs_move_as_the_table_says()
        self.nothing_waits_for_ever()
        self.versions_form_a_line()
        self.one_job_of_a_model_at_a_time()
        self.the_log_only_grows()

    def jobs_move_as_the_table_says(self) -> None:
        with self.database.transaction() as session:
            rows = session.execute(
                select(JobRow.id, JobRow.model_id, JobRow.status, JobRow.token, JobRow.attempts)
            )
            now = {row.id: Seen(row.model_id, row.status, row.token, row.attempts) for row in rows}
        assert set(self.seen) <= set(now), "an accepted job is gone"
        for job_id, before in self.seen.items():
            after = now[job_id]
            assert after.token >= before.token
            if after.status is not before.status:
                assert after.status in ALLOWED[before.status]
                assert not before.status.is_final or job_id in self.retried
        for job_id, after in now.items():
            assert after.attempts == self.attempts[job_id]
            assert after.attempts <= MAX_ATTEMPTS
        self.seen = now
        self.retried.clear()

    def nothing_waits_for_ever(self) -> None:
        """What is queued has a message, or had one, from which the reconciler counts."""
        with self.database.transaction() as session:
            silent = session.scalars(
                select(JobRow.id).where(
                    JobRow.status == JobStatus.QUEUED,
                    JobRow.message_sent_at.is_(None),
                    JobRow.id.not_in(select(OutboxRow.job_id)),
                )
            ).all()
            leaseless = session.scalars(
                select(JobRow.id).where(
                    JobRow.status.in_(CLAIMED), JobRow.lease_expires_at.is_(None)
                )
            ).all()
        assert silent == []
        assert leaseless == []

    def versions_form_a_line(self) -> None:
        with self.database.transaction() as session:
            for model in MODELS:
                every = models.versions(session, model)
                assert [one.number for one in every] == list(range(len(every)))
                live = [one for one in every if one.revoked_at is None]
                parents = [one.parent for one in live]
                assert parents == [None, *(one.number for one in live[:-1])]
                made = [one.job_id for one in every[1:]]
                assert len(set(made)) == len(made)
            published = select(func.count()).select_from(VersionRow).where(VersionRow.number > 0)
            succeeded = JobRow.outcome == Outcome.PATCHED
            patches = select(PatchRow.job_id).join(JobRow, JobRow.id == PatchRow.job_id)
            ids = session.scalars(patches.where(succeeded, PatchRow.replaced_at.is_(None))).all()
            patched = session.scalars(select(JobRow.id).where(succeeded)).all()
            assert sorted(ids) == sorted(patched)
            assert session.scalar(published) == len(patched)

    def one_job_of_a_model_at_a_time(self) -> None:
        held = [self._model(job_id) for job_id in self._in(*CLAIMED)]
        assert len(held) == len(set(held))

    def history_has_no_gap(self) -> None:
        with self.database.transaction() as session:
            rows = session.execute(
                select(JobEventRow.job_id, JobEventRow.number, JobEventRow.data).order_by(
                    JobEventRow.job_id, JobEventRow.number
                )
            ).all()
        told: dict[str, list[JobStatus]] = {job_id: [] for job_id in self.seen}
        for job_id, number, data in rows:
            told[job_id].append(data.status)
            assert number == len(told[job_id])
        for job_id, statuses in told.items():
            for old, new in itertools.pairwise(statuses):
                assert old is new or new in ALLOWED[old]
            assert statuses[-1] is self.seen[job_id].status

    def the_log_only_grows(self) -> None:
        """New lines hash to their leaves, the tree is that of all leaves that were ever seen."""
        with self.database.transaction() as session:
            last = self.log[-1].id if self.log else 0
            self.log += audit.entries(session, last, 10_000)
            leaves = [bytes.fromhex(entry.leaf_hash) for entry in self.log]
            for entry in self.log[-3:]:
                assert lines.leaf(entry.line()).hex() == entry.leaf_hash
            assert audit.size(session) == len(leaves)
            assert audit.root(session, len(leaves)) == slow_root(leaves)

    def the_log_is_as_it_was(self) -> None:
        """Every line is still the one that was seen when it was written."""
        with self.database.transaction() as session:
            assert audit.entries(session, 0, 10_000) == self.log

    def teardown(self) -> None:
        """Left to itself, with workers that work, every job comes to its end."""
        for _ in range(200):
            self.now += timedelta(seconds=3600)
            self.reap()
            self.jobs_move_as_the_table_says()
            for job_id in self._in(JobStatus.AWAITING_APPROVAL):
                with self.database.transaction() as session:
                    jobs.approve(
                        session, job_id, tenant=TENANT, principal="boss", reason=None, now=self.now
                    )
            self.jobs_move_as_the_table_says()
            if all(one.status.is_final for one in self.seen.values()):
                self.the_laws_hold()
                self.history_has_no_gap()
                self.the_log_is_as_it_was()
                return
            self.wake("w1")
            self.jobs_move_as_the_table_says()
            if self.claims:
                self.finish(len(self.claims) - 1, "patched", old_base=False, dies=False)
            self.jobs_move_as_the_table_says()
        raise AssertionError("a job never ends")

    # -- what the rules share

    def _job(self, which: int) -> str:
        return list(self.seen)[which % len(self.seen)]

    def _claim(self, which: int) -> jobs.Job:
        """Mostly one of the latest, sometimes one of long ago."""
        return self.claims[-1 - which % len(self.claims)]

    def _in(self, *statuses: JobStatus) -> list[str]:
        return [job_id for job_id, one in self.seen.items() if one.status in statuses]

    def _model(self, job_id: str) -> str:
        return self.seen[job_id].model

    def _only_if_current(self, claim: jobs.Job) -> _OnlyIfCurrent:
        job = self.seen[claim.id]
        return _OnlyIfCurrent(job.token == claim.token and job.status in CLAIMED)


class _OnlyIfCurrent:
    """The block raises ``LeaseLost`` exactly when the claim is not the current one."""

    def __init__(self, current: bool) -> None:
        self._current = current

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        lost = kind is LeaseLost
        assert lost is not self._current, "a stale worker was believed, or a good one was not"
        return lost


def _end(session: Session, claim: jobs.Job, ending: str, *, back: int, now: object) -> None:
    status, outcome = {
        "patched": (JobStatus.SUCCEEDED, Outcome.PATCHED),
        "refused": (JobStatus.REJECTED, Outcome.GATE_REFUSED),
        "nothing": (JobStatus.SUCCEEDED, Outcome.NOTHING_TO_FORGET),
        "failed": (JobStatus.FAILED, Outcome.ERROR),
        "canceled": (JobStatus.CANCELED, Outcome.CANCELED),
    }[ending]
    model = claim.request.model
    parent = max(0, models.get(session, model).latest_version - back)
    leaves_patch = ending in ("patched", "refused")
    verdict = Verdict.FAIL if ending == "refused" else Verdict.PASS
    jobs.finish(
        session,
        claim.id,
        claim.token,
        status=status,
        outcome=outcome,
        error=ERROR if ending == "failed" else None,
        report=report(verdict) if leaves_patch else None,
        patch=new_patch(model, parent) if leaves_patch else None,
        now=now,  # type: ignore[arg-type]
    )


def slow_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, as it is written there."""
    if len(leaves) < 2:
        return leaves[0] if leaves else merkle.EMPTY
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return merkle.node_hash(slow_root(leaves[:half]), slow_root(leaves[half:]))
