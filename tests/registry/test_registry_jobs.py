"""Laws of single jobs: what is accepted is kept, who claims holds, who ends leaves everything."""

from __future__ import annotations

from datetime import datetime

import pytest
from registry_examples import (
    NAME,
    PRINCIPAL,
    TENANT,
    accept,
    at,
    beat,
    claim,
    new_patch,
    report,
    request,
    shelve,
    succeed,
)
from sqlalchemy import select

from api_schemas.jobs import JobError, JobStatus, Outcome
from api_schemas.reports import Verdict
from registry import audit, jobs, models, outbox, patches
from registry.database import Database
from registry.errors import (
    IllegalTransition,
    JobFinished,
    JobNotFound,
    LeaseLost,
    ModelNotFound,
    RegistryError,
    StaleParent,
)
from registry.jobs import leases
from registry.jobs.moves import move
from registry.tables import OutboxRow


@pytest.fixture(autouse=True)
def _shelf(database: Database) -> None:
    shelve(database, "clip-a", "clip-b")


def running(database: Database, model: str = "clip-a") -> jobs.Job:
    with database.transaction() as session:
        accept(session, request(model))
        job = claim(session)
    assert job is not None
    return job


def cancel(database: Database, job_id: str, tenant: str = TENANT) -> jobs.Job:
    with database.transaction() as session:
        return jobs.cancel(session, job_id, tenant=tenant, principal=PRINCIPAL, now=at(5))


def test_what_is_accepted_is_what_was_asked(database: Database) -> None:
    asked = request(
        "clip-b",
        method={"method": "razor", "tau": 0.25, "eps": 1e-9},
        priority=3,
        regulation="gdpr",
        subject_request_id="case-7",
        metadata={"note": "\u0000 é ☃"},
        due_at="2026-04-01T00:00:00+02:00",
    )
    with database.transaction() as session:
        job = accept(session, asked, due_at=at(60), samples=["d" * 64, "e" * 64], now=at(1.000001))
    with database.transaction() as session:
        assert jobs.get(session, job.id, TENANT) == job
    assert job.request == asked
    assert job.samples == ("d" * 64, "e" * 64)
    assert (job.status, job.created_at, job.due_at) == (JobStatus.QUEUED, at(1.000001), at(60))
    assert (job.attempts, job.token, job.has_report, job.patch_id) == (0, 0, False, None)


def test_nothing_is_accepted_for_a_model_that_is_not_there(database: Database) -> None:
    with pytest.raises(ModelNotFound), database.transaction() as session:
        accept(session, request("clip-z"))


def test_a_request_that_fails_leaves_neither_job_nor_message(database: Database) -> None:
    def fail() -> None:
        with database.transaction() as session:
            accept(session)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with database.transaction() as session:
        assert jobs.page(session, tenant=TENANT, limit=10) == ([], None)
        assert outbox.pending(session, 10) == []
        assert [entry.action for entry in audit.entries(session)] == ["model.added"] * 2


def test_another_tenants_job_is_not_there(database: Database) -> None:
    with database.transaction() as session:
        job = accept(session)
        with pytest.raises(JobNotFound):
            jobs.get(session, job.id, "tenant-b")
        with pytest.raises(JobNotFound):
            jobs.cancel(session, job.id, tenant="tenant-b", principal="key:other", now=at(1))
        assert jobs.get(session, job.id).status is JobStatus.QUEUED


@pytest.mark.parametrize("function", [jobs.get, jobs.report])
def test_a_job_that_never_was_is_not_found(database: Database, function: object) -> None:
    with database.transaction() as session, pytest.raises(JobNotFound):
        function(session, "job_" + "0" * 32)  # type: ignore[operator]


def test_the_queue_goes_by_deadline_then_priority_then_age(database: Database) -> None:
    order: list[tuple[datetime | None, int, float]] = [
        (at(50), -10, 3.0),
        (at(60), 9, 2.0),
        (at(60), 8, 1.0),
        (at(60), 8, 2.0),
        (None, 10, 3.0),
        (None, 0, 0.0),
        (None, 0, 1.0),
    ]
    with database.transaction() as session:
        ids = {}
        for place in (3, 6, 0, 5, 1, 4, 2):
            due_at, priority, age = order[place]
            asked = request(priority=priority)
            ids[place] = accept(session, asked, due_at=due_at, now=at(age)).id
        claimed = []
        while (job := claim(session, now=at(10))) is not None:
            claimed.append(job.id)
            succeed(session, job)
    assert claimed == [ids[place] for place in range(len(order))]


def test_a_held_model_is_passed_over_until_it_is_free(database: Database) -> None:
    first = running(database)
    with database.transaction() as session:
        second = accept(session, due_at=at(1))
        other = accept(session, request("clip-b"))
        taken = claim(session, "w2")
        assert taken is not None
        assert taken.id == other.id
        assert claim(session, "w3") is None
        # Not even when the lease has run out: its worker may still be writing.
        assert claim(session, "w3", now=at(1000)) is None
        succeed(session, first)
        following = claim(session, "w3")
        assert following is not None
        assert following.id == second.id


def test_a_model_that_was_taken_before_its_lock_is_passed_over(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The statement that finds and locks a model may have looked before another claim's commit.
    running(database)
    with database.transaction() as session:
        accept(session)
        free_then = iter(["clip-a", None])
        monkeypatch.setattr(leases, "_lock_next_model", lambda *_: next(free_then))
        assert claim(session, "w2") is None


def test_a_claim_is_a_lease_with_a_new_token(database: Database) -> None:
    job = running(database)
    assert (job.status, job.token, job.attempts) == (JobStatus.RUNNING, 1, 1)
    assert (job.lease_owner, job.lease_expires_at, job.started_at) == ("w1", at(15), at(0))
    with database.transaction() as session:
        jobs.reap(session, max_attempts=3, now=at(15))
        again = claim(session, "w2", now=at(20))
    assert again is not None
    assert (again.id, again.token, again.attempts) == (job.id, 2, 2)
    assert again.started_at == at(0)


def test_a_heartbeat_extends_the_lease_and_never_takes_progress_back(database: Database) -> None:
    job = running(database)
    with database.transaction() as session:
        assert beat(session, job, 0.6, at(10)) is False
        assert beat(session, job, 0.4, at(11)) is False
        found = jobs.get(session, job.id)
        assert (found.fraction, found.phase, found.eta_seconds) == (0.6, "fit", 2.0)
        assert found.lease_expires_at == at(26)
        assert jobs.reap(session, max_attempts=3, now=at(25.9)) == jobs.Reaped([], [], [])
        beat(session, job, 7.0, at(12))
        assert jobs.get(session, job.id).fraction == 1.0
        jobs.reap(session, max_attempts=3, now=at(100))
        again = claim(session)
    assert again is not None
    assert (again.fraction, again.phase, again.eta_seconds) == (0.0, "starting", None)


def test_an_old_token_can_do_nothing(database: Database) -> None:
    old = running(database)
    with database.transaction() as session:
        jobs.reap(session, max_attempts=3, now=at(15))
        with pytest.raises(LeaseLost):
            beat(session, old)
        current = claim(session, "w2")
        assert current is not None
        with pytest.raises(LeaseLost):
            beat(session, old)
        with pytest.raises(LeaseLost):
            succeed(session, old)
        assert beat(session, current) is False
        done = succeed(session, current)
        assert jobs.get(session, old.id) == done
        assert [p.job_id for p in models.lineage(session, "clip-a", 1)] == [old.id]


def test_a_job_ends_once(database: Database) -> None:
    job = running(database)
    with database.transaction() as session:
        done = succeed(session, job)
        with pytest.raises(LeaseLost):
            succeed(session, job)
        with pytest.raises(LeaseLost):
            beat(session, job)
        assert jobs.get(session, job.id) == done


def test_a_job_that_never_was_has_no_lease(database: Database) -> None:
    with database.transaction() as session, pytest.raises(LeaseLost):
        jobs.finish(
            session,
            "job_" + "0" * 32,
            1,
            status=JobStatus.REJECTED,
            outcome=Outcome.GATE_REFUSED,
            now=at(1),
        )


def test_success_leaves_report_patch_and_version(database: Database) -> None:
    job = running(database)
    with database.transaction() as session:
        done = succeed(session, job, at(30))
    assert (done.status, done.outcome, done.verdict) == (
        JobStatus.SUCCEEDED,
        Outcome.PATCHED,
        Verdict.PASS,
    )
    assert (done.fraction, done.finished_at, done.model_version) == (1.0, at(30), 1)
    assert (done.lease_owner, done.lease_expires_at) == (None, None)
    with database.transaction() as session:
        assert jobs.report(session, job.id) == report()
        patch = patches.get(session, done.patch_id or "", TENANT)
    assert (patch.job_id, patch.model_id, patch.version) == (job.id, "clip-a", 1)


def test_a_rejected_candidate_is_kept_and_never_published(database: Database) -> None:
    job = running(database)
    candidate = new_patch()
    with database.transaction() as session:
        done = jobs.finish(
            session,
            job.id,
            job.token,
            status=JobStatus.REJECTED,
            outcome=Outcome.GATE_REFUSED,
            report=report(Verdict.PARTIAL),
            patch=candidate,
            now=at(1),
        )
        assert (done.patch_id, done.model_version) == (candidate.id, None)
        assert done.verdict is Verdict.PARTIAL
        assert patches.get(session, candidate.id).version is None
        assert models.get(session, "clip-a").latest_version == 0


def test_a_failure_keeps_its_reason_and_how_far_it_came(database: Database) -> None:
    job = running(database)
    error = JobError(code="out_of_memory", message="Use a smaller batch.", retryable=True)
    with database.transaction() as session:
        beat(session, job, 0.25)
        done = jobs.finish(
            session,
            job.id,
            job.token,
            status=JobStatus.FAILED,
            outcome=Outcome.ERROR,
            error=error,
            now=at(1),
        )
    assert (done.error, done.fraction, done.phase) == (error, 0.25, "fit")
    with database.transaction() as session:
        assert jobs.report(session, job.id) is None


@pytest.mark.parametrize(("parent", "model"), [(1, "clip-a"), (0, "clip-b")])
def test_a_patch_on_other_weights_is_refused_and_nothing_is_written(
    database: Database, parent: int, model: str
) -> None:
    job = running(database)
    with database.transaction() as session:
        with pytest.raises((StaleParent, ValueError)):
            jobs.finish(
                session,
                job.id,
                job.token,
                status=JobStatus.SUCCEEDED,
                outcome=Outcome.PATCHED,
                patch=new_patch(model, parent),
                now=at(1),
            )
        # The caller goes on in the same transaction, and the job is as it was.
        assert jobs.get(session, job.id) == job
        assert succeed(session, job).model_version == 1


def test_two_edits_of_one_model_stand_on_each_other(database: Database) -> None:
    for number in (1, 2, 3):
        job = running(database)
        with database.transaction() as session:
            assert succeed(session, job).model_version == number
    with database.transaction() as session:
        line = models.lineage(session, "clip-a", 3)
        assert [patch.manifest.model.parent for patch in line] == [0, 1, 2]


def test_a_move_happens_only_from_the_state_it_starts_in(database: Database) -> None:
    job = running(database)
    with database.transaction() as session:
        assert not move(
            session, job.id, JobStatus.CANCELING, JobStatus.CANCELED, now=job.created_at
        )
        assert jobs.get(session, job.id) == job
        with pytest.raises(IllegalTransition):
            move(session, job.id, JobStatus.RUNNING, JobStatus.CANCELED, now=job.created_at)
        assert move(session, job.id, JobStatus.RUNNING, JobStatus.CANCELING, now=job.created_at)
        assert jobs.get(session, job.id).status is JobStatus.CANCELING


def test_cancel_is_idempotent_and_waits_for_the_worker(database: Database) -> None:
    job = running(database)
    assert cancel(database, job.id).status is JobStatus.CANCELING
    assert cancel(database, job.id).status is JobStatus.CANCELING
    with database.transaction() as session:
        assert beat(session, job) is True
        done = jobs.finish(
            session,
            job.id,
            job.token,
            status=JobStatus.CANCELED,
            outcome=Outcome.CANCELED,
            now=at(9),
        )
    assert done.finished_at == at(9)
    assert cancel(database, job.id) == done
    with database.transaction() as session:
        actions = [entry.action for entry in audit.entries(session, object_id=job.id)]
    assert actions == ["job.accepted", "job.claimed", "job.cancel_requested", "job.canceled"]


def test_a_queued_job_is_canceled_at_once(database: Database) -> None:
    with database.transaction() as session:
        job = accept(session)
    done = cancel(database, job.id)
    assert (done.status, done.outcome, done.finished_at) == (
        JobStatus.CANCELED,
        Outcome.CANCELED,
        at(5),
    )
    with database.transaction() as session:
        assert claim(session) is None


def test_a_patch_that_was_complete_when_the_cancel_came_is_published(database: Database) -> None:
    job = running(database)
    cancel(database, job.id)
    with database.transaction() as session:
        assert succeed(session, job).model_version == 1
    with pytest.raises(JobFinished) as caught:
        cancel(database, job.id)
    assert caught.value.status is JobStatus.SUCCEEDED


def test_silence_is_forgiven_until_the_attempts_are_used_up(database: Database) -> None:
    job = running(database)
    with database.transaction() as session:
        assert jobs.reap(session, max_attempts=2, now=at(14.9)) == jobs.Reaped([], [], [])
        assert jobs.reap(session, max_attempts=2, now=at(15)) == jobs.Reaped([job.id], [], [])
        assert jobs.reap(session, max_attempts=2, now=at(15)) == jobs.Reaped([], [], [])
        assert claim(session, now=at(20)) is not None
        assert jobs.reap(session, max_attempts=2, now=at(40)) == jobs.Reaped([], [job.id], [])
        dead = jobs.get(session, job.id)
    assert (dead.status, dead.outcome, dead.error) == (
        JobStatus.FAILED,
        Outcome.ERROR,
        jobs.DEAD_LETTERED,
    )
    assert dead.finished_at == at(40)


def test_a_silent_worker_cannot_hold_up_a_cancel(database: Database) -> None:
    job = running(database)
    cancel(database, job.id)
    with database.transaction() as session:
        assert jobs.reap(session, max_attempts=9, now=at(15)) == jobs.Reaped([], [], [job.id])
        assert jobs.get(session, job.id).status is JobStatus.CANCELED


@pytest.mark.parametrize("how", ["finish", "dead_letter", "cancel"])
def test_whoever_frees_a_model_wakes_the_next_job(database: Database, how: str) -> None:
    job = running(database)
    with database.transaction() as session:
        following = accept(session)
        # Its own message comes while the model is held, finds nothing to do, and is gone.
        sent = [message.id for message in outbox.pending(session, 10)]
        outbox.mark_sent(session, sent, at(1))
        assert claim(session, "w2") is None
    if how == "cancel":
        cancel(database, job.id)
    with database.transaction() as session:
        if how == "finish":
            succeed(session, job)
        else:
            jobs.reap(session, max_attempts=1, now=at(15))
        assert session.scalars(select(OutboxRow.job_id)).all() == [following.id]


def test_counts_are_those_of_the_jobs(database: Database) -> None:
    with database.transaction() as session:
        assert jobs.counts(session, now=at(0)).oldest_queued_seconds == 0
    done = running(database)
    with database.transaction() as session:
        succeed(session, done)
        accept(session, due_at=at(20))
    # The claim takes the job with the deadline.
    running(database, "clip-b")
    with database.transaction() as session:
        accept(session, now=at(3))
        counts = jobs.counts(session, now=at(30))
    assert counts.by_status == dict.fromkeys(JobStatus, 0) | {
        JobStatus.SUCCEEDED: 1,
        JobStatus.RUNNING: 1,
        JobStatus.QUEUED: 2,
    }
    assert counts.by_outcome == dict.fromkeys(Outcome, 0) | {Outcome.PATCHED: 1}
    assert (counts.expired_leases, counts.overdue) == (1, 1)
    assert counts.oldest_queued_seconds == 30
    assert counts.unsent_messages == 4


def test_no_name_reaches_a_log_an_error_or_the_audit(database: Database) -> None:
    job = running(database)
    with database.transaction() as session:
        succeed(session, job)
        assert NAME in job.request.target.names()
        assert NAME not in repr(job)
        assert all(NAME not in repr(entry) for entry in audit.entries(session))
    with pytest.raises(RegistryError) as caught:
        cancel(database, job.id)
    assert NAME not in repr(caught.value) + str(caught.value)
