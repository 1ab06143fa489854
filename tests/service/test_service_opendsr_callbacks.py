"""Callbacks: told at least once, signed, until somebody answers 2xx; the last word ends it."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from front_world import TENANT, World, make_world, register, world
from opendsr_world import (
    CALLBACK,
    DOMAIN,
    REQUESTS,
    certificate_of,
    post,
    sent,
    subject_request,
    verify,
)
from sqlalchemy import delete, func, select, update
from test_service_background import eventually

from api_schemas.reports import Verdict
from api_schemas.webhooks import DeliveryFailure
from registry import jobs, opendsr
from registry.deliveries import Result
from registry.tables import CallbackRow, JobRow, SubjectRequestRow
from registry.transitions import CLAIMED
from service import logs
from service.opendsr import callbacks
from service.parts import now

FIGURES = "razor_opendsr_callbacks"
OTHER = "https://other.example/called?token=0"


@dataclass
class Receiver:
    """A controller's server on the loopback: keeps what it gets and answers as it is told."""

    status: int = 200
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)

    def told(self, path: str = "/opendsr_callbacks") -> list[str]:
        return [json.loads(body)["request_status"] for at, _, body in self.got if at == path]


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Receiver, str]]:
    made = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            made.got.append((self.path, headers, body))
            self.send_response(made.statuses.get(self.path, made.status))
            self.send_header("location", "/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_args: Any) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    yield made, f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    listening.server_close()
    thread.join()


@pytest.fixture
def receiver(server: tuple[Receiver, str]) -> tuple[Receiver, str]:
    """It answers 200 and has heard nothing yet."""
    server[0].got.clear()
    server[0].statuses.clear()
    server[0].status = 200
    return server


class Plain:
    """Sends what is meant for any https address to the receiver; ``down`` = nobody answers."""

    def __init__(self, base: str) -> None:
        self._base = base
        self.down = False

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Result:
        if self.down:
            return Result(failure=DeliveryFailure.UNREACHABLE)
        path = httpx.URL(url).raw_path.decode()
        with httpx.Client(trust_env=False) as client:
            answer = client.post(self._base + path, headers=dict(headers), content=body)
        return Result(status_code=answer.status_code)


@pytest.fixture(scope="module")
def kept_front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Its loop does not run: each test tells when a round is due."""
    root = tmp_path_factory.mktemp("callbacks")
    with world(root, opendsr_domain=DOMAIN, opendsr_seconds=3600.0) as made:
        yield made


@pytest.fixture
def front(kept_front: World, receiver: tuple[Receiver, str]) -> Iterator[World]:
    """Nobody is yet to be told anything, and no job waits or runs."""
    object.__setattr__(kept_front.parts, "sender", Plain(receiver[1]))
    yield kept_front
    with kept_front.parts.database.transaction() as session:
        session.execute(delete(CallbackRow))
        for row in session.scalars(select(JobRow).where(JobRow.status.in_(CLAIMED))):
            row.lease_expires_at = now()
        session.flush()
        jobs.reap(session, max_attempts=1, now=now() + timedelta(seconds=1))
        assert not session.scalars(select(JobRow.id).where(JobRow.finished_at.is_(None))).all()


def tell(front: World) -> None:
    """A round, with all that waits for its time due now."""
    with front.parts.database.transaction() as session:
        session.execute(update(CallbackRow).values(next_attempt_at=now()))
    callbacks.tell(front.parts)


def open_callbacks(front: World) -> int:
    with front.parts.database.transaction() as session:
        return session.scalar(select(func.count()).select_from(CallbackRow)) or 0


def test_every_change_is_told_signed_until_the_last_word(
    front: World, receiver: tuple[Receiver, str]
) -> None:
    got = receiver[0]
    assert front.http is not None
    subject_request_id = sent(front.http)
    tell(front)
    assert got.told() == []  # what the receipt said is known already
    job = front.claim()
    tell(front)
    assert got.told() == ["in_progress"]
    tell(front)
    assert got.told() == ["in_progress"]
    front.finish(job)
    assert open_callbacks(front) == 1
    tell(front)
    assert got.told() == ["in_progress", "completed"]
    assert open_callbacks(front) == 0
    certificate = certificate_of(front.http)
    status = front.http.get(f"{REQUESTS}/{subject_request_id}").json()
    for _, headers, body in got.got:
        assert headers["content-type"] == "application/json"
        assert headers["x-opendsr-processor-domain"] == DOMAIN
        verify(certificate, headers["x-opendsr-signature"], body)
        told = json.loads(body)
        assert told.pop("request_status") in {"in_progress", "completed"}
        assert told == {
            "controller_id": TENANT,
            "status_callback_url": CALLBACK,
            "subject_request_id": subject_request_id,
            "expected_completion_time": status["expected_completion_time"],
        }


@pytest.mark.parametrize("status", [None, 500, 410, 301, 199])
def test_what_is_not_2xx_is_told_again_later(
    front: World,
    receiver: tuple[Receiver, str],
    caplog: pytest.LogCaptureFixture,
    status: int | None,
) -> None:
    got = receiver[0]
    caplog.set_level(logging.INFO)
    assert front.http is not None
    sent(front.http, status_callback_urls=[OTHER])
    job = front.claim()
    if status == 199:  # a server cannot end an exchange with it, but a sender could tell it

        class Early:
            def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Result:
                return Result(status_code=199)

        sender: Any = Early()
    else:
        sender = Plain(receiver[1])
        sender.down = status is None
        got.status = status or 200
    object.__setattr__(front.parts, "sender", sender)
    for attempt in (1, 2, 3):
        before = now()
        tell(front)
        with front.parts.database.transaction() as session:
            row = session.scalars(select(CallbackRow)).one()
        assert row.attempts == attempt
        pause = (row.next_attempt_at - before).total_seconds()
        assert 5 * 2 ** (attempt - 1) <= pause < 5 * 2 ** (attempt - 1) + 5
        callbacks.tell(front.parts)  # not yet: its time has not come
    assert {path for path, _, _ in got.got} <= {"/called?token=0"}
    lines = "".join(logs.JsonLines().format(record) for record in caplog.records)
    assert lines.count("callback not delivered") == 1
    assert "other.example" not in lines
    # The control: one that answers again gets what is the case now, once.
    got.got.clear()
    got.status = 204
    object.__setattr__(front.parts, "sender", Plain(receiver[1]))
    front.finish(job)
    tell(front)
    tell(front)
    assert got.told("/called?token=0") == ["completed"]


def test_one_address_that_fails_keeps_nothing_from_another(
    front: World, receiver: tuple[Receiver, str]
) -> None:
    got = receiver[0]
    got.statuses = {"/called?token=0": 503}
    assert front.http is not None
    # One that is named twice is told once.
    sent(front.http, status_callback_urls=[OTHER, CALLBACK, CALLBACK])
    front.finish(front.claim())
    tell(front)
    assert (got.told(), got.told("/called?token=0")) == (["completed"], ["completed"])
    assert open_callbacks(front) == 1
    got.statuses.clear()
    tell(front)
    assert (got.told(), len(got.told("/called?token=0"))) == (["completed"], 2)
    assert open_callbacks(front) == 0


def test_what_came_of_each_callback_and_who_waits_are_figures(
    front: World, receiver: tuple[Receiver, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    got = receiver[0]
    http = front.http
    assert http is not None

    def figures() -> dict[str, float]:
        lines = [line.split() for line in http.get("/metrics").text.splitlines()]
        return {line[0]: float(line[1]) for line in lines if line[0].startswith(FIGURES)}

    before = figures()
    assert before[f"{FIGURES}_waiting"] == 0
    sent(http, status_callback_urls=[OTHER, CALLBACK])
    assert figures() == before, "they were told by the answer itself"
    job = front.claim()
    assert figures()[f"{FIGURES}_waiting"] == 2
    got.statuses = {"/called?token=0": 503}
    tell(front)
    assert figures()[f"{FIGURES}_waiting"] == 1
    got.statuses.clear()
    front.finish(job)
    with monkeypatch.context() as patched:
        patched.setattr(opendsr, "LAST_ATTEMPT", 1)
        got.statuses = {"/called?token=0": 503}
        tell(front)
    after = figures()
    grown = {name: after[name] - before[name] for name in after}
    assert grown == {
        f"{FIGURES}_waiting": 0,
        f'{FIGURES}_total{{outcome="delivered"}}': 2,
        f'{FIGURES}_total{{outcome="failed"}}': 1,
        f'{FIGURES}_total{{outcome="dead"}}': 1,
    }


def test_a_front_that_dies_between_post_and_note_tells_it_again(
    front: World, receiver: tuple[Receiver, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    got = receiver[0]
    assert front.http is not None
    sent(front.http)
    front.claim()

    def die(*_args: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(opendsr, "told", die)
        with pytest.raises(MemoryError):
            tell(front)
    callbacks.tell(front.parts)
    assert len(got.told()) == 1  # another front holds it, for all anybody knows
    tell(front)
    assert got.told() == ["in_progress", "in_progress"]


def test_an_end_without_success_and_a_moved_deadline_are_told(
    front: World, receiver: tuple[Receiver, str]
) -> None:
    got = receiver[0]
    assert front.http is not None
    sent(front.http)
    job = front.claim()
    tell(front)
    front.finish(job, Verdict.FAIL)
    tell(front)
    assert got.told() == ["in_progress", "in_progress"]
    times = [json.loads(body)["expected_completion_time"] for _, _, body in got.got]
    assert times[1] > times[0]
    assert open_callbacks(front) == 1  # it can still be run again
    with front.parts.database.transaction() as session:
        row = session.get_one(JobRow, job.id)
        assert row.due_at is not None
        row.due_at += timedelta(days=61)
    tell(front)
    tell(front)
    times = [json.loads(body)["expected_completion_time"] for _, _, body in got.got]
    assert len(times) == 3
    assert times[2] > times[1]


def test_cancelling_is_told_by_the_names_the_request_used(
    front: World, receiver: tuple[Receiver, str]
) -> None:
    got = receiver[0]
    assert front.http is not None
    asked = subject_request()
    path = "/opendsr/v1/opengdpr_requests"
    assert post(front.http, asked, path).status_code == 201
    assert front.http.delete(f"{path}/{asked['subject_request_id']}").status_code == 202
    tell(front)
    assert got.told() == ["cancelled"]
    _, headers, body = got.got[0]
    verify(certificate_of(front.http), headers["x-opengdpr-signature"], body)
    assert "x-opendsr-signature" not in headers


def test_after_the_last_attempt_an_address_is_forgotten(
    front: World, receiver: tuple[Receiver, str], caplog: pytest.LogCaptureFixture
) -> None:
    got = receiver[0]
    got.status = 500
    assert front.http is not None
    subject_request_id = sent(front.http)
    front.claim()
    for attempts, left in ((opendsr.LAST_ATTEMPT - 2, 1), (opendsr.LAST_ATTEMPT - 1, 0)):
        with front.parts.database.transaction() as session:
            session.execute(update(CallbackRow).values(attempts=attempts))
        before = now()
        tell(front)
        assert open_callbacks(front) == left
        with front.parts.database.transaction() as session:
            for row in session.scalars(select(CallbackRow)):
                pause = (row.next_attempt_at - before).total_seconds()
                assert 3600 <= pause < 3700
    assert "callback given up" in caplog.text
    assert front.http.get(f"{REQUESTS}/{subject_request_id}").status_code == 200


def test_the_front_runs_the_loop_and_a_restart_loses_nothing(
    tmp_path: Path, receiver: tuple[Receiver, str]
) -> None:
    got = receiver[0]
    # Nobody tells anything here.
    with world(tmp_path, opendsr_domain=DOMAIN, opendsr_seconds=3600.0) as made:
        assert made.http is not None
        sent(made.http)
        made.finish(made.claim())
        assert got.told() == []
    second = make_world(tmp_path, opendsr_domain=DOMAIN, opendsr_seconds=0.05)
    object.__setattr__(second.parts, "sender", Plain(receiver[1]))
    with TestClient(second.app):
        register(second)
        eventually(lambda: got.told() == ["completed"] and open_callbacks(second) == 0)
        with second.parts.database.transaction() as session:
            assert session.scalars(select(SubjectRequestRow.body_sha256)).one()
