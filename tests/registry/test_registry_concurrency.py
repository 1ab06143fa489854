"""Many threads at once: each job runs once, one per model; of two who want one thing, one wins."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from registry_examples import PRINCIPAL, TENANT, accept, at, claim, request, shelve, succeed
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from api_schemas.jobs import JobStatus
from registry import audit, jobs, models, outbox
from registry.database import Database
from registry.errors import JobFinished, LeaseLost
from registry.idempotency import Key
from registry.tables import JobRow

WORKERS = 6


def together(tasks: Sequence[Callable[[], None]]) -> None:
    """Run all at the same moment; the first failure of any is the caller's."""
    barrier = threading.Barrier(len(tasks))
    failures: list[BaseException] = []

    def run(task: Callable[[], None]) -> None:
        try:
            barrier.wait(timeout=30)
            task()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    if failures:
        raise failures[0]


def test_every_job_runs_once_and_no_model_twice_at_a_time(database: Database) -> None:
    names = [f"clip-{number}" for number in range(3)]
    shelve(database, *names)
    with database.transaction() as session:
        accepted = [accept(session, request(names[n % 3]), now=at(n)).id for n in range(18)]
    runs: Counter[str] = Counter()
    held: set[str] = set()
    clashes: list[str] = []
    guard = threading.Lock()

    def work(worker: str) -> None:
        idle = 0
        while idle < 20:
            with database.transaction() as session:
                job = claim(session, worker)
            if job is None:
                idle += 1
                if sum(runs.values()) == len(accepted):
                    return
                threading.Event().wait(0.01)
                continue
            idle = 0
            with guard:
                runs[job.id] += 1
                if job.request.model in held:
                    clashes.append(job.id)
                held.add(job.request.model)
            threading.Event().wait(0.002)
            with guard:
                held.discard(job.request.model)
            with database.transaction() as session:
                succeed(session, job)

    together([lambda name=f"w{n}": work(name) for n in range(WORKERS)])  # type: ignore[misc]
    assert clashes == []
    assert runs == Counter(accepted)
    with database.transaction() as session:
        assert all(jobs.get(session, i).status is JobStatus.SUCCEEDED for i in accepted)
        for name in names:
            line = models.versions(session, name)
            assert [version.number for version in line] == list(range(7))


def test_of_many_claims_at_once_each_gets_another_job(database: Database) -> None:
    names = [f"clip-{number}" for number in range(WORKERS - 2)]
    shelve(database, *names)
    with database.transaction() as session:
        for name in names:
            accept(session, request(name))
    got: list[str | None] = []

    def take() -> None:
        with database.transaction() as session:
            job = claim(session)
        got.append(None if job is None else job.request.model)

    together([take] * WORKERS)
    assert Counter(got) == Counter([*names, None, None])


def test_the_database_itself_refuses_a_second_running_job(database: Database) -> None:
    shelve(database, "clip-a")
    with database.transaction() as session:
        first, second = accept(session), accept(session)

    def run(job_id: str) -> None:
        with database.transaction() as session:
            values = {"status": JobStatus.RUNNING, "lease_expires_at": at(9)}
            session.execute(update(JobRow).where(JobRow.id == job_id).values(**values))

    run(first.id)
    with pytest.raises(IntegrityError):
        run(second.id)


def test_a_key_sent_many_times_at_once_makes_one_job(database: Database) -> None:
    shelve(database, "clip-a")
    key = Key(route="POST /unlearn", key="k1", fingerprint="f1")
    made: list[str] = []

    def post() -> None:
        with database.transaction() as session:
            made.append(accept(session, key=key).id)

    together([post] * WORKERS)
    assert len(made) == WORKERS
    assert len(set(made)) == 1
    with database.transaction() as session:
        assert jobs.counts(session, now=at(0)).by_status[JobStatus.QUEUED] == 1


def test_a_model_added_by_many_at_once_is_there_once(database: Database) -> None:
    together([lambda: shelve(database, "clip-a")] * WORKERS)
    with database.transaction() as session:
        assert [version.number for version in models.versions(session, "clip-a")] == [0]
        assert len(audit.entries(session)) == 1


def test_either_the_worker_or_the_reaper_gets_the_job(database: Database) -> None:
    shelve(database, "clip-a")
    for _ in range(5):
        with database.transaction() as session:
            accept(session)
            job = claim(session)
        assert job is not None
        won: list[str] = []

        def end(job: jobs.Job = job, won: list[str] = won) -> None:
            try:
                with database.transaction() as session:
                    succeed(session, job, now=at(20))
                won.append("worker")
            except LeaseLost:
                pass

        def reap(won: list[str] = won) -> None:
            with database.transaction() as session:
                if jobs.reap(session, max_attempts=1, now=at(20)).dead_lettered:
                    won.append("reaper")

        together([end, reap, reap])
        assert len(won) == 1
        with database.transaction() as session:
            found = jobs.get(session, job.id)
        expected = {"worker": JobStatus.SUCCEEDED, "reaper": JobStatus.FAILED}[won[0]]
        assert found.status is expected
        assert (found.patch_id is None) is (won[0] == "reaper")


def test_a_cancel_meets_a_claim(database: Database) -> None:
    shelve(database, "clip-a")
    for _ in range(5):
        with database.transaction() as session:
            job = accept(session)
        claimed: list[jobs.Job] = []

        def take(claimed: list[jobs.Job] = claimed) -> None:
            with database.transaction() as session:
                got = claim(session)
            if got is not None:
                claimed.append(got)

        def call_off(job: jobs.Job = job) -> None:
            with database.transaction() as session:
                jobs.cancel(session, job.id, tenant=TENANT, principal=PRINCIPAL, now=at(1))

        together([take, call_off])
        with database.transaction() as session:
            found = jobs.get(session, job.id)
            assert found.status is (JobStatus.CANCELING if claimed else JobStatus.CANCELED)
            jobs.reap(session, max_attempts=3, now=at(100))


def test_a_cancel_meets_an_ending(database: Database) -> None:
    shelve(database, "clip-a")
    with database.transaction() as session:
        accept(session)
        job = claim(session)
    assert job is not None
    late: list[bool] = []

    def end() -> None:
        with database.transaction() as session:
            succeed(session, job)

    def call_off() -> None:
        try:
            with database.transaction() as session:
                jobs.cancel(session, job.id, tenant=TENANT, principal=PRINCIPAL, now=at(1))
        except JobFinished:
            late.append(True)

    together([end, call_off])
    with database.transaction() as session:
        assert jobs.get(session, job.id).status is JobStatus.SUCCEEDED


def test_a_claim_waits_for_the_relay_and_then_gets_the_job(database: Database) -> None:
    # The broker may hand a wake-up to a worker before the relay has noted it as sent.
    shelve(database, "clip-a")
    with database.transaction() as session:
        accept(session)
    noted, got = threading.Event(), []

    def relay() -> None:
        with database.transaction() as session:
            ids = [message.id for message in outbox.pending(session, 10)]
            outbox.mark_sent(session, ids, at(1))
            noted.set()
            threading.Event().wait(0.2)

    def work() -> None:
        noted.wait(timeout=30)
        with database.transaction() as session:
            got.append(claim(session))

    together([relay, work])
    assert got[0] is not None


def test_relays_at_once_publish_each_message_once(database: Database) -> None:
    shelve(database, "clip-a")
    with database.transaction() as session:
        accepted = [accept(session).id for _ in range(20)]
    published: Counter[str] = Counter()
    guard = threading.Lock()

    def relay() -> None:
        for _ in range(8):
            with database.transaction() as session:
                messages = outbox.pending(session, 3)
                outbox.mark_sent(session, [message.id for message in messages], at(1))
            with guard:
                published.update(message.job_id for message in messages)

    together([relay] * 3)
    assert published == Counter(accepted)


def test_readers_of_the_audit_log_miss_no_line(database: Database) -> None:
    writers, lines_each = 4, 10
    seen: list[int] = []
    done = threading.Event()
    running = [writers]
    guard = threading.Lock()

    def write(name: str) -> None:
        for number in range(lines_each):
            with database.transaction() as session:
                audit.append(
                    session,
                    tenant=None,
                    actor=name,
                    action="test.line",
                    object_type="test",
                    object_id=str(number),
                    details={},
                    now=at(number),
                )
        with guard:
            running[0] -= 1
            if not running[0]:
                done.set()

    def read() -> None:
        last = False
        while not last:
            last = done.is_set()
            with database.transaction() as session:
                new = audit.entries(session, after=seen[-1] if seen else 0, limit=1000)
            seen.extend(entry.id for entry in new)

    together([*[lambda name=f"a{n}": write(name) for n in range(writers)], read])  # type: ignore[misc]
    assert len(seen) == writers * lines_each
