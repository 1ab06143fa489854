"""A job's events: the same as JSON and as a stream, without gaps, through breaks and restarts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from front_world import PRINCIPAL, SECRET_NAME, World, bearer
from live_front import Live, free_port, live, start

from api_schemas.events import EventPage
from service import events as routes
from service.access import Caller

STREAM = {"Accept": "text/event-stream"}


def streamed(answer: httpx.Response) -> list[dict[str, str]]:
    """The events of a whole stream, field by field."""
    blocks = [block.splitlines() for block in answer.text.split("\n\n") if block]
    return [
        dict(line.split(": ", 1) for line in block)
        for block in blocks
        if not block[0].startswith(":")
    ]


def test_history_and_stream_are_the_same_events(front: World, http: TestClient) -> None:
    job_id = front.accept()
    job = front.claim()
    for fraction in (0.1, 0.2):
        front.progress(job, phase="edit", fraction=fraction)
    done = front.finish(job)
    path = http.get(f"/jobs/{job_id}").json()["urls"]["events"]
    page = EventPage.model_validate(http.get(path).json())
    assert page.next is None
    assert [(event.id, event.type.value) for event in page.items] == [
        (1, "job.accepted"),
        (2, "job.running"),
        (3, "job.progress"),
        (4, "job.succeeded"),
    ]
    last = page.items[-1].data
    assert (last.patch_id, last.model_version, last.attempt) == (done.patch_id, 1, 1)
    answer = http.get(path, headers=STREAM)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    told = streamed(answer)
    assert [(one["id"], one["event"]) for one in told] == [
        (str(event.id), event.type.value) for event in page.items
    ]
    assert [json.loads(one["data"]) for one in told] == http.get(path).json()["items"]
    assert SECRET_NAME not in answer.text


def test_a_listener_goes_on_after_the_last_event_it_has(front: World, http: TestClient) -> None:
    path = f"/jobs/{front.finished().id}/events"
    rest = streamed(http.get(path, headers=STREAM | {"Last-Event-ID": "1"}))
    assert [one["id"] for one in rest] == ["2", "3"]
    assert [one["id"] for one in http.get(f"{path}?after=2").json()["items"]] == [3]
    over = http.get(path, headers=STREAM | {"Last-Event-ID": "3"})
    assert (over.status_code, over.content) == (204, b"")
    for wrong in ("4", "-1", "1.0", "x", "", "9" * 40, "\u0663".encode()):
        for accept in (STREAM, {}):
            answer = http.get(path, headers=accept | {"Last-Event-ID": wrong})
            assert answer.status_code == 400
            assert answer.json()["type"] == "/problems/invalid-last-event-id"


def test_wrong_parts_are_refused(front: World, http: TestClient) -> None:
    job_id = front.accept()
    for query in ("after=-1", "after=x", f"after={2**31}", "limit=0", "limit=101", "more=1"):
        answer = http.get(f"/jobs/{job_id}/events?{query}")
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-request")
        assert answer.json()["errors"][0]["pointer"] == f"/query/{query.partition('=')[0]}"
    for path in ("job_none", f"job_{'0' * 32}"):
        assert http.get(f"/jobs/{path}/events", headers=STREAM).status_code == 404


def test_pages_of_the_history_are_complete(front: World, http: TestClient) -> None:
    path: str | None = f"/jobs/{front.finished().id}/events?limit=2"
    found: list[int] = []
    while path is not None:
        answer = http.get(path)
        found += [one["id"] for one in answer.json()["items"]]
        path = answer.links["next"]["url"] if "next" in answer.links else None
    assert found == [1, 2, 3]


@pytest.mark.parametrize(
    ("accept", "stream"),
    [
        ("text/event-stream", True),
        ("TEXT/Event-Stream; q=0.5, */*", True),
        ("*/*", False),
        ("application/json", False),
        ("text/event-stream;q=0", False),
        ("text/event-streams", False),
        (None, False),
    ],
)
def test_a_stream_comes_only_to_those_who_take_one(accept: str | None, stream: bool) -> None:
    assert routes._accepts_stream(accept) is stream


def test_another_tenants_job_has_no_events(front: World) -> None:
    job_id = front.accept()
    for tenant, count in (("default", 1), ("other", 0)):
        caller = Caller(tenant, PRINCIPAL, frozenset())
        assert len(routes._look(front.parts, caller, job_id, 0, 10)) == count


def test_a_stopping_service_ends_its_streams(front: World, http: TestClient) -> None:
    job_id = front.accept()
    threading.Timer(0.3, front.parts.stopping.set).start()
    started = time.monotonic()
    answer = http.get(f"/jobs/{job_id}/events", headers=STREAM)
    assert [one["event"] for one in streamed(answer)] == ["job.accepted"]
    assert time.monotonic() - started < 10


def test_a_silent_stream_gives_signs_of_life_and_ends_some_day(
    front: World, http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "KEEP_ALIVE_SECONDS", 0.2)
    monkeypatch.setattr(routes, "MAX_STREAM_SECONDS", 1.0)
    answer = http.get(f"/jobs/{front.accept()}/events", headers=STREAM)
    assert answer.text.count(": ping") >= 3


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Live]:
    with live(tmp_path) as running:
        yield running


def test_events_come_as_they_happen_and_listeners_hold_no_threads(server: Live) -> None:
    """More listen than the thread pool has threads, and the front still answers."""
    job_id = server.world.accept()
    url = f"{server.url}/jobs/{job_id}/events"

    # One client: each would load every root certificate anew, for a connection without TLS.
    with (
        httpx.Client(verify=False, timeout=60, headers=bearer(server.key)) as http,
        ThreadPoolExecutor(45) as pool,
    ):

        def listen() -> list[str]:
            return [one["event"] for one in streamed(http.get(url, headers=STREAM))]

        listening = [pool.submit(listen) for _ in range(45)]
        time.sleep(0.5)
        started = time.monotonic()
        assert http.get(f"{server.url}/models").status_code == 200
        assert time.monotonic() - started < 20
        server.world.fail(server.world.claim())
        expected = ["job.accepted", "job.running", "job.failed"]
        assert all(one.result() == expected for one in listening)


def test_a_listener_follows_through_a_restart(tmp_path: Path) -> None:
    port = free_port()
    first = start(tmp_path, port=port)
    headers = STREAM | bearer(first.key)
    job_id = first.world.accept()
    url = f"{first.url}/jobs/{job_id}/events"
    with httpx.stream("GET", url, headers=headers, timeout=30) as answer:
        lines = answer.iter_lines()
        while not next(lines).startswith("id: 1"):
            pass
        job = first.world.claim()
        first.stop()
        seen = [line for line in lines if line.startswith("id: ")]
    last = seen[-1].removeprefix("id: ") if seen else "1"
    second = start(tmp_path, port=port)
    try:
        second.world.fail(job)
        rest = httpx.get(url, headers=headers | {"Last-Event-ID": last}, timeout=30)
    finally:
        second.stop()
    ids = [*range(1, int(last) + 1), *(int(one["id"]) for one in streamed(rest))]
    assert ids == [1, 2, 3]


def test_a_listener_who_leaves_is_no_error(server: Live, caplog: Any) -> None:
    job_id = server.world.accept()
    url = f"{server.url}/jobs/{job_id}/events"
    with httpx.stream("GET", url, headers=STREAM | bearer(server.key), timeout=30) as answer:
        next(answer.iter_lines())
    time.sleep(0.6)
    assert httpx.get(f"{server.url}/healthz").status_code == 200
    assert not [line for line in caplog.records if line.levelname in {"ERROR", "CRITICAL"}]
