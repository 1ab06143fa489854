"""Wake-ups: written with what needs them, dropped when sent, repeated when nobody came."""

from __future__ import annotations

import pytest
from registry_examples import PRINCIPAL, TENANT, accept, at, claim, request, shelve
from sqlalchemy.orm import Session

from registry import jobs, outbox
from registry.database import Database


@pytest.fixture(autouse=True)
def _shelf(database: Database) -> None:
    shelve(database, "clip-a", "clip-b")


def relay(session: Session, seconds: float) -> list[str]:
    messages = outbox.pending(session, 100)
    outbox.mark_sent(session, [message.id for message in messages], at(seconds))
    return [message.job_id for message in messages]


def resend(session: Session, seconds: float, after_seconds: float = 30, limit: int = 100) -> int:
    return outbox.resend(session, after_seconds=after_seconds, limit=limit, now=at(seconds))


def test_a_message_waits_until_it_is_sent(database: Database) -> None:
    with database.transaction() as session:
        made = [accept(session).id for _ in range(3)]
        assert [message.job_id for message in outbox.pending(session, 2)] == made[:2]
        assert [message.job_id for message in outbox.pending(session, 9)] == made
        assert relay(session, 1) == made
        assert outbox.pending(session, 9) == []


def test_marking_again_drops_no_later_message(database: Database) -> None:
    with database.transaction() as session:
        accept(session)
        first = outbox.pending(session, 9)
        outbox.mark_sent(session, [message.id for message in first], at(1))
    with database.transaction() as session:
        second = accept(session)
        outbox.mark_sent(session, [message.id for message in first], at(2))
        assert [message.job_id for message in outbox.pending(session, 9)] == [second.id]


def test_marking_nothing_is_nothing(database: Database) -> None:
    with database.transaction() as session:
        outbox.mark_sent(session, [], at(1))


def test_pauses_double_up_to_an_hour(database: Database) -> None:
    with database.transaction() as session:
        accept(session)
        relay(session, 0)
        sent = 0.0
        for pause in (30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600):
            assert resend(session, sent + pause - 1) == 0
            assert resend(session, sent + pause) == 1
            sent += pause
            assert len(relay(session, sent)) == 1


@pytest.mark.parametrize(("after", "due"), [(0, 0), (5000, 5000)])
def test_pauses_at_the_ends_of_the_scale(database: Database, after: float, due: float) -> None:
    with database.transaction() as session:
        accept(session)
        relay(session, 0)
        if due:
            assert resend(session, due - 1, after) == 0
        assert resend(session, due, after) == 1


def test_only_jobs_that_nobody_came_for_are_repeated(database: Database) -> None:
    with database.transaction() as session:
        accept(session)
        claimed = claim(session)
        assert claimed is not None
        canceled = accept(session, request("clip-b"))
        jobs.cancel(session, canceled.id, tenant=TENANT, principal=PRINCIPAL, now=at(1))
        relay(session, 1)
        unsent = accept(session, request("clip-b"))
        assert resend(session, 10_000) == 0
        assert relay(session, 10_000) == [unsent.id]
        assert resend(session, 20_000) == 1


def test_a_message_that_waits_is_not_repeated(database: Database) -> None:
    with database.transaction() as session:
        accept(session)
        relay(session, 0)
        assert resend(session, 30) == 1
        # The broker is down: nothing is sent, and nothing piles up.
        assert resend(session, 10_000) == 0
        assert len(relay(session, 10_000)) == 1


def test_no_more_than_the_limit_and_the_longest_waiting_first(database: Database) -> None:
    with database.transaction() as session:
        made = []
        for second in (2, 1, 3):
            made.append((second, accept(session).id))
            relay(session, second)
        assert resend(session, 60, limit=2) == 2
        assert relay(session, 60) == [job_id for _, job_id in sorted(made)[:2]]


def test_a_requeued_job_has_a_message_even_behind_a_more_urgent_one(database: Database) -> None:
    with database.transaction() as session:
        job = accept(session)
        claim(session)
        urgent = accept(session, due_at=at(99))
        relay(session, 1)
        jobs.reap(session, max_attempts=3, now=at(60))
        assert set(relay(session, 60)) == {job.id, urgent.id}


def test_a_requeued_job_starts_with_a_fresh_message(database: Database) -> None:
    with database.transaction() as session:
        job = accept(session)
        relay(session, 0)
        resend(session, 30)
        relay(session, 30)
        claim(session, now=at(31))
        jobs.reap(session, max_attempts=3, now=at(60))
        assert relay(session, 60) == [job.id]
        assert resend(session, 89) == 0
        assert resend(session, 90) == 1
