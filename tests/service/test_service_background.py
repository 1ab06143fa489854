"""Relay, reaper and the other loops: nothing is lost, whatever is down, and loops do not die."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from front_world import World, make_world, register, world
from kombu import Connection

from api_schemas.jobs import JobStatus
from api_schemas.messages import QUEUE, RUN_TASK
from registry.settings import Settings
from registry.tables import JobRow
from service import background
from service.broker import CeleryBroker, MemoryBroker
from service.parts import now


def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def unsent(made: World) -> int:
    return made.stored()["outbox"]


def test_an_accepted_job_reaches_the_broker(front: World) -> None:
    job_id = front.accept()
    eventually(lambda: front.parts.broker.sent == [job_id])
    eventually(lambda: unsent(front) == 0)


def test_while_the_broker_is_down_messages_stay_and_one_line_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    broker = MemoryBroker()
    broker.down = True
    with world(tmp_path, broker=broker, relay_seconds=0.01) as made:
        made_jobs = [made.accept() for _ in range(3)]
        failures = made.parts.measures.background_failures.labels("relay")
        eventually(lambda: failures._value.get() >= 3)
        assert unsent(made) == 3
        warnings = [line for line in caplog.records if getattr(line, "loop", "") == "relay"]
        assert len(warnings) == 1
        assert made.http is not None
        assert made.http.get("/readyz").json()["status"] == "degraded"
        broker.down = False
        eventually(lambda: broker.sent == made_jobs)
        eventually(lambda: unsent(made) == 0)
    assert "works again" in caplog.text


def test_messages_sent_before_a_failure_are_not_sent_again(tmp_path: Path) -> None:
    made = make_world(tmp_path)
    made.parts.database.migrate()
    register(made)
    made_jobs = [made.accept() for _ in range(3)]

    class Fragile(MemoryBroker):
        """Goes down after two messages."""

        def send(self, job_id: str) -> None:
            self.down = len(self.sent) == 2
            super().send(job_id)

    broker = Fragile()
    object.__setattr__(made.parts, "broker", broker)
    with pytest.raises(ConnectionError):
        background.relay(made.parts)
    assert broker.sent == made_jobs[:2]
    assert unsent(made) == 1
    made.parts.database.close()


def test_silent_workers_lose_their_jobs_and_forgotten_jobs_are_sent_again(tmp_path: Path) -> None:
    with world(tmp_path, recovery_seconds=0.05, max_attempts=2) as made:
        made.accept()
        for attempt in (1, 2):
            job = made.claim()
            assert job.attempts == attempt
            made.expire(job)
            status = JobStatus.QUEUED if attempt == 1 else JobStatus.FAILED
            eventually(lambda job=job, status=status: made.job(job.id).status is status)
        sent = made.parts.broker.sent
        waiting = made.accept()
        eventually(lambda: waiting in sent and unsent(made) == 0)
        with made.parts.database.transaction() as session:
            session.get_one(JobRow, waiting).message_sent_at = now() - timedelta(hours=2)
        eventually(lambda: sent.count(waiting) == 2)


def test_a_loop_survives_everything_and_stops_when_told() -> None:
    rounds: list[float] = []
    failures: list[None] = []

    def action() -> None:
        rounds.append(time.monotonic())
        if len(rounds) < 4:
            raise MemoryError

    loop = background.Loop("test", action, 0.02, lambda: failures.append(None))
    loop.start()
    eventually(lambda: len(rounds) >= 6)
    loop.stop()
    loop.join(5)
    assert len(failures) == 3
    pauses = [later - earlier for earlier, later in itertools.pairwise(rounds)]
    assert pauses[0] >= 0.04
    assert pauses[2] >= 0.16
    made = len(rounds)
    time.sleep(0.1)
    assert len(rounds) == made
    assert loop._pause_seconds(10_000) == background.MAX_PAUSE_SECONDS


def test_the_lifespan_starts_and_stops_the_threads(tmp_path: Path) -> None:
    # Fronts of other tests may still have threads that wait to store pictures.
    others = set(threading.enumerate())

    def ours() -> list[str]:
        started = set(threading.enumerate()) - others
        return sorted(thread.name for thread in started if thread.name.startswith("razor-"))

    with world(tmp_path):
        loops = ("deliver", "forget", "prune", "reap", "reconcile", "relay", "sweep", "tell")
        assert ours() == [f"razor-{loop}" for loop in loops]
    assert ours() == []


def test_several_fronts_on_one_database_are_harmless(tmp_path: Path) -> None:
    with world(tmp_path) as one, TestClient(make_world(tmp_path).app) as other:
        made_jobs = {one.accept() for _ in range(20)}
        brokers = (one.parts.broker, other.app.state.parts.broker)
        eventually(lambda: unsent(one) == 0)
        assert {job_id for broker in brokers for job_id in broker.sent} == made_jobs


def test_what_celery_publishes_is_the_task_with_the_id_and_nothing_else(tmp_path: Path) -> None:
    settings = Settings(data_folder=tmp_path)
    broker = CeleryBroker(settings)
    broker.ping()
    broker.send("job_1")
    broker.close()
    broker.close()
    options = settings.celery_config()["broker_transport_options"]
    with Connection("filesystem://", transport_options=options) as connection:
        queue = connection.SimpleQueue(QUEUE)
        message = queue.get(timeout=2)
        message.ack()
        queue.close()
    assert message.headers["task"] == RUN_TASK
    args, kwargs, _ = message.payload
    assert (args, kwargs) == (["job_1"], {})


def test_a_broker_that_is_not_there_is_told_soon() -> None:
    settings = Settings(broker_url="redis://127.0.0.1:1/0")
    broker = CeleryBroker(settings)
    started = time.monotonic()
    for call in (broker.ping, lambda: broker.send("job_1")):
        with pytest.raises(Exception, match=r"127\.0\.0\.1:1"):
            call()
    assert time.monotonic() - started < 5
    broker.close()
