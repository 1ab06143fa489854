"""A database that is gone or says nothing: clear refusals, nothing lost, no restart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from front_world import World, as_files, bearer, pictures
from live_front import Live, live

from service import events
from tests.faults.conftest import OUTAGE_SECONDS, Server, until
from tests.faults.test_faults_storage import refused

#: How long the front waits for the database here.
WAIT_SECONDS = 3.0
REQUEST = '{"model": "reference-clip", "target": {"name": "Quillon Vexmere"}}'

pytestmark = pytest.mark.postgres


@pytest.fixture
def front(tmp_path: Path, postgres: Server) -> Iterator[Live]:
    with live(
        tmp_path,
        database_url=postgres.url,
        database_wait_seconds=WAIT_SECONDS,
        recovery_seconds=0.2,
    ) as running:
        yield running


@pytest.fixture
def http(front: Live) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=front.url, headers=bearer(front.key), timeout=30, verify=False
    ) as client:
        yield client


def post(http: httpx.Client, key: str) -> httpx.Response:
    files = [("request", (None, REQUEST, "application/json")), *as_files(pictures(3))]
    return http.post("/unlearn", files=files, headers={"Idempotency-Key": key})


def recovered(http: httpx.Client, world: World, job_id: str) -> None:
    """The same processes go on: reads, writes, readiness, background."""
    until(lambda: http.get("/readyz").status_code == 200)
    until(lambda: http.get(f"/jobs/{job_id}").status_code == 200)
    assert post(http, "after").status_code == 202
    until(lambda: len(world.parts.broker.sent) >= 2)  # type: ignore[attr-defined]


def test_a_database_that_is_gone(front: Live, http: httpx.Client, postgres: Server) -> None:
    accepted = post(http, "before").json()
    postgres.stop()
    started = time.monotonic()
    refused(post(http, "during"), "database-unavailable")
    refused(http.get(f"/jobs/{accepted['id']}"), "database-unavailable")
    assert http.get("/healthz").status_code == 200
    told = http.get("/readyz")
    assert (told.status_code, told.json()["checks"]["database"]) == (503, "failed")
    time.sleep(max(0.0, OUTAGE_SECONDS - (time.monotonic() - started)))
    postgres.start()
    recovered(http, front.world, accepted["id"])
    again = post(http, "during")
    assert again.status_code == 202, "what was refused left nothing behind that is in the way"
    assert http.get(again.headers["location"]).json()["status"] == "queued"


def test_a_database_that_says_nothing(front: Live, http: httpx.Client, postgres: Server) -> None:
    """More callers wait than the front has threads; it goes on answering what needs no database."""
    accepted = post(http, "before").json()
    postgres.freeze()
    started = time.monotonic()
    with ThreadPoolExecutor(50) as pool:
        waiting = [pool.submit(http.get, f"/jobs/{accepted['id']}") for _ in range(50)]
        time.sleep(0.3)
        assert http.get("/healthz").status_code == 200
        told = http.get("/readyz")
        assert (told.status_code, told.json()["checks"]["database"]) == (503, "failed")
        for each in waiting:
            refused(each.result(), "database-unavailable")
    time.sleep(max(0.0, OUTAGE_SECONDS - (time.monotonic() - started)))
    postgres.thaw()
    recovered(http, front.world, accepted["id"])


def test_a_stream_outlives_an_outage(
    front: Live, http: httpx.Client, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "KEEP_ALIVE_SECONDS", OUTAGE_SECONDS / 4)
    job_id = front.world.accept()
    with http.stream(
        "GET", f"/jobs/{job_id}/events", headers={"Accept": "text/event-stream"}
    ) as answer:
        lines = answer.iter_lines()
        while next(lines) != "id: 1":
            pass
        postgres.stop()
        ended = time.monotonic() + OUTAGE_SECONDS
        while time.monotonic() < ended:
            # Signs of life come all the while.
            assert next(lines) in {": ping", ""}
        postgres.start()
        until(lambda: http.get("/readyz").status_code == 200)
        front.world.claim()
        while next(lines) != "id: 2":
            pass
