"""A job's history: complete, in order, and only what was committed."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from registry_examples import (
    PRINCIPAL,
    START,
    TENANT,
    accept,
    at,
    beat,
    claim,
    shelve,
    succeed,
)
from sqlalchemy import func, select

from api_schemas.events import EventType, JobEvent
from api_schemas.jobs import JobError, JobStatus, Outcome
from api_schemas.webhooks import DeliveryFailure, DeliveryStatus
from registry import deliveries, events, jobs, webhooks
from registry.database import Database
from registry.deliveries import Result
from registry.tables import AttemptRow, JobEventRow
from registry.transitions import ALLOWED


@pytest.fixture(autouse=True)
def _shelf(database: Database) -> None:
    shelve(database, "clip-a")


def history(database: Database, job_id: str) -> list[JobEvent]:
    with database.transaction() as session:
        return events.after(session, job_id, 0, tenant=TENANT, limit=100)


def kinds(database: Database, job_id: str) -> list[str]:
    return [event.type.value.removeprefix("job.") for event in history(database, job_id)]


def test_every_legal_move_is_a_type_of_event() -> None:
    for old, following in ALLOWED.items():
        for new in following:
            assert isinstance(events.type_of(old, new), EventType)
    with pytest.raises(ValueError, match=r"job\.queued"):
        events.type_of(JobStatus.CANCELING, JobStatus.QUEUED)


def test_a_life_is_told_from_its_first_to_its_last_event(database: Database) -> None:
    with database.transaction() as session:
        accept(session)
        job = claim(session)
        assert job is not None
    with database.transaction() as session:
        for seconds, fraction in ((1, 0.1), (2, 0.2), (3, 0.3)):
            beat(session, job, fraction, now=at(seconds))
    with database.transaction() as session:
        jobs.reap(session, max_attempts=3, now=at(60))
    with database.transaction() as session:
        again = claim(session, now=at(61))
        assert again is not None
        done = succeed(session, again, now=at(62))
    found = history(database, job.id)
    assert [event.type.value for event in found] == [
        "job.accepted",
        "job.running",
        "job.progress",
        "job.requeued",
        "job.running",
        "job.succeeded",
    ]
    assert [event.id for event in found] == [1, 2, 3, 4, 5, 6]
    assert [event.at for event in found] == [START, START, at(1), at(60), at(61), at(62)]
    assert [event.data.attempt for event in found] == [0, 1, 1, 1, 2, 2]
    assert [event.data.phase for event in found[:5]] == [
        "queued",
        "starting",
        "fit",
        "queued",
        "starting",
    ]
    assert found[-1].is_final
    assert not any(event.is_final for event in found[:-1])
    last = found[-1].data
    assert (last.patch_id, last.model_version) == (done.patch_id, done.model_version)
    with database.transaction() as session:
        rest = events.after(session, job.id, 4, tenant=TENANT, limit=1)
        assert [event.id for event in rest] == [5]
        assert events.after(session, job.id, 0, tenant="tenant-b", limit=9) == []


def test_other_ends_are_told_too(database: Database) -> None:
    with database.transaction() as session:
        canceled = accept(session)
        jobs.cancel(session, canceled.id, tenant=TENANT, principal=PRINCIPAL, now=START)
        accept(session)
        job = claim(session)
        assert job is not None
        for _ in range(2):
            jobs.cancel(session, job.id, tenant=TENANT, principal=PRINCIPAL, now=START)
        error = JobError(code="edit_diverged", message="m", retryable=False)
        failed, outcome = JobStatus.FAILED, Outcome.ERROR
        jobs.finish(
            session, job.id, job.token, status=failed, outcome=outcome, error=error, now=START
        )
    assert kinds(database, canceled.id) == ["accepted", "canceled"]
    assert kinds(database, job.id) == ["accepted", "running", "canceling", "failed"]
    assert history(database, job.id)[-1].data.error_code == "edit_diverged"


def test_what_is_rolled_back_is_no_history(database: Database) -> None:
    with database.transaction() as session:
        job = accept(session)
        hook = add(session)
    with database.transaction() as session:
        jobs.cancel(session, job.id, tenant=TENANT, principal=PRINCIPAL, now=START)
        # The control: within the transaction there is an event, and a message.
        assert deliveries.page(session, hook, tenant=TENANT, limit=9)[0] != []
        assert events.latest(session, job.id) == 2
        session.rollback()
    assert kinds(database, job.id) == ["accepted"]
    with database.transaction() as session:
        assert deliveries.page(session, hook, tenant=TENANT, limit=9)[0] == []


@pytest.mark.postgres
@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_numbers_become_visible_in_order(database: Database) -> None:
    """A second event of one job waits for the first one's commit; other jobs do not."""
    with database.transaction() as session:
        one, other = accept(session), accept(session)
    seen: list[int] = []

    def cancel(job_id: str) -> None:
        with database.transaction() as session:
            jobs.cancel(session, job_id, tenant=TENANT, principal=PRINCIPAL, now=START)
        seen.append(events_of(job_id))

    def events_of(job_id: str) -> int:
        return len(history(database, job_id))

    with database.transaction() as session:
        jobs.record.lock(session, one.id)
        events.append(session, one.id, EventType.PROGRESS, now=START)
        waits = threading.Thread(target=cancel, args=(one.id,))
        waits.start()
        waits.join(0.5)
        assert waits.is_alive()
        assert events_of(one.id) == 1
        cancel(other.id)
        assert seen == [2]
    waits.join(20)
    assert seen == [2, 3]
    assert [event.id for event in history(database, one.id)] == [1, 2, 3]


# Messages.


def add(session: object, kinds: list[EventType] | None = None, tenant: str = TENANT) -> str:
    return webhooks.add(
        session,  # type: ignore[arg-type]
        tenant=tenant,
        principal=PRINCIPAL,
        url="https://example.org/hook",
        events=kinds,
        sealed="sealed",
        now=START,
    ).id


def take(database: Database, seconds: float = 0, limit: int = 9) -> list[deliveries.Claimed]:
    with database.transaction() as session:
        return deliveries.claim(session, endpoints=limit, each=9, lease_seconds=30, now=at(seconds))


def test_messages_go_to_the_tenants_enabled_endpoints_that_want_them(database: Database) -> None:
    with database.transaction() as session:
        every, some = add(session), add(session, [EventType.CANCELED])
        add(session, tenant="tenant-b")
        off = add(session)
        webhooks.change(
            session,
            off,
            tenant=TENANT,
            principal=PRINCIPAL,
            enabled=False,
            events=None,
            set_events=False,
            now=START,
        )
        job = accept(session)
        jobs.cancel(session, job.id, tenant=TENANT, principal=PRINCIPAL, now=START)
    told = sorted((one.webhook_id, one.event.type.value) for one in take(database) if one.event)
    expected = [(every, "job.accepted"), (every, "job.canceled"), (some, "job.canceled")]
    assert told == sorted(expected)


def test_a_message_is_one_senders_until_its_claim_runs_out(database: Database) -> None:
    with database.transaction() as session:
        add(session)
        accept(session)
    (first,) = take(database)
    assert take(database, 29) == []
    (second,) = take(database, 30)
    assert (second.id, second.token) == (first.id, first.token + 1)
    with database.transaction() as session:
        late = Result(status_code=200)
        assert deliveries.settle(session, first.id, first.token, late, now=at(31)) is None
        gone = Result(failure=DeliveryFailure.TIMED_OUT)
        settled = deliveries.settle(session, second.id, second.token, gone, now=at(31))
        assert settled is DeliveryStatus.PENDING
    assert take(database, 35.9) == []
    assert len(take(database, 36)) == 1


def test_senders_at_once_take_different_messages(database: Database) -> None:
    with database.transaction() as session:
        add(session)
        for _ in range(12):
            accept(session)
    taken: list[str] = []
    barrier = threading.Barrier(4)

    def claim_some() -> None:
        barrier.wait()
        for _ in range(4):
            taken.extend(one.id for one in take(database, limit=2))

    threads = [threading.Thread(target=claim_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken += [one.id for one in take(database, limit=99)]
    assert len(taken) == len(set(taken))
    assert len(taken) + len(take(database, limit=99)) == 12


def test_removing_an_endpoint_never_breaks_a_job(database: Database) -> None:
    with database.transaction() as session:
        hook = add(session)
        job = accept(session)
        message = deliveries.page(session, hook, tenant=TENANT, limit=1)[0][0]
        webhooks.remove(session, hook, tenant=TENANT, principal=PRINCIPAL, now=START)
        jobs.cancel(session, job.id, tenant=TENANT, principal=PRINCIPAL, now=START)
        late = Result(status_code=200)
        assert deliveries.settle(session, message.id, 1, late, now=START) is None
    assert take(database) == []


def test_secrets_overlap_and_end(database: Database) -> None:
    day = timedelta(hours=24)
    with database.transaction() as session:
        hook = add(session)
        for number in range(6):
            webhooks.rotate(
                session,
                hook,
                tenant=TENANT,
                principal=PRINCIPAL,
                sealed=f"sealed-{number}",
                overlap_until=at(number) + day,
                now=at(number),
            )
        accept(session)
    (message,) = take(database)
    assert [secret.sealed for secret in message.secrets] == [f"sealed-{n}" for n in (2, 3, 4, 5)]
    with database.transaction() as session:
        deliveries.give_back(session, message.id, message.token, START)
    (message,) = take(database, day.total_seconds() + 60)
    assert [secret.sealed for secret in message.secrets] == ["sealed-5"]
    assert "sealed" not in repr(message.secrets)


def test_only_messages_that_were_settled_long_ago_are_pruned(database: Database) -> None:
    """Those that wait stay, and so does one that was tried again (by a replay) since."""
    with database.transaction() as session:
        webhook_id = add(session, [EventType.ACCEPTED])
        for _ in range(4):
            accept(session)
    old, dead, replayed, waiting = take(database)
    with database.transaction() as session:
        for one, status in ((old, 200), (dead, 410), (replayed, 200)):
            result = Result(status_code=status)
            deliveries.settle(session, one.id, one.token, result, now=at(1))
        # The 410 disabled it.
        webhooks.change(
            session,
            webhook_id,
            tenant=TENANT,
            principal=PRINCIPAL,
            enabled=True,
            events=None,
            set_events=False,
            now=at(2),
        )
        deliveries.replay(
            session, webhook_id, replayed.id, tenant=TENANT, principal=PRINCIPAL, now=at(100)
        )
    (again,) = (one for one in take(database, 100) if one.id == replayed.id)
    with database.transaction() as session:
        settled = Result(status_code=200)
        deliveries.settle(session, again.id, again.token, settled, now=at(101))
        assert deliveries.prune(session, before=START, limit=9) == 0
        assert deliveries.prune(session, before=at(50), limit=1) == 1
        assert deliveries.prune(session, before=at(50), limit=9) == 1
        assert deliveries.prune(session, before=at(50), limit=9) == 0
        left, _ = deliveries.page(session, webhook_id, tenant=TENANT, limit=9)
        assert {one.id for one in left} == {replayed.id, waiting.id}
        attempts = session.scalars(select(AttemptRow.delivery_id)).all()
        assert set(attempts) == {replayed.id}
        assert session.scalar(select(func.count()).select_from(JobEventRow)) == 4, "events stay"


def test_many_are_asked_for_at_once_as_each_alone(database: Database) -> None:
    shelve(database, "clip-a")
    with database.transaction() as session:
        ids = [accept(session).id for _ in range(3)]
        jobs.cancel(session, ids[1], tenant=None, principal=PRINCIPAL, now=at(1))
    asked = [*ids, *(f"job_{number}" for number in range(2 * events.AT_ONCE))]
    with database.reading() as session:
        assert events.latest_of(session, asked) == {
            job_id: events.latest(session, job_id) for job_id in ids
        }
        standings = jobs.standings(session, asked)
        assert standings.keys() == set(ids)
        for job_id, found in standings.items():
            job = jobs.get(session, job_id)
            assert found == (job.status, job.phase, job.fraction, job.eta_seconds, job.due_at)
