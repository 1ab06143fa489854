"""Clients that take their time, or lie about what they send, keep nobody else waiting."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from front_world import as_files, bearer, fields, pictures
from live_front import Live, live

from service import middleware
from service.connections import TimedProtocol

CLIENTS = 150
SOON = 20.0


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    """A front that waits a second for a head, and as long before it asks for a body's pace."""
    monkeypatch.setattr(TimedProtocol, "head_seconds", 1.0)
    monkeypatch.setattr(middleware, "BODY_GRACE_SECONDS", 1.0)
    with live(tmp_path) as running:
        yield running


@contextmanager
def connected(server: Live, count: int, first: bytes) -> Iterator[list[socket.socket]]:
    """So many clients that have sent this and no more."""
    with ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = stack.enter_context(socket.create_connection((server.host, server.port)))
            client.settimeout(SOON)
            client.sendall(first)
            clients.append(client)
        yield clients


def said(client: socket.socket) -> bytes:
    """All that comes until the server hangs up."""
    answer = b""
    try:
        while piece := client.recv(65_536):
            answer += piece
    except ConnectionResetError:
        pass
    return answer


def serves(server: Live) -> bool:
    """Whether others are answered, an upload among them."""
    with httpx.Client(base_url=server.url, headers=bearer(server.key), timeout=SOON) as http:
        request = ("request", (None, json.dumps(fields()), "application/json"))
        sent = http.post("/unlearn", files=[request, *as_files(pictures(3))])
        return (http.get("/healthz").status_code, sent.status_code) == (200, 202)


def head(server: Live, length: object, kind: bytes = b"application/json") -> bytes:
    key = server.key.encode()
    return (
        b"POST /unlearn HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nAuthorization: Bearer %s\r\n"
        b"Content-Length: %s\r\n\r\n" % (kind, key, str(length).encode())
    )


def test_many_heads_that_never_end_keep_nobody_waiting(server: Live) -> None:
    with connected(server, CLIENTS, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ") as clients:
        assert serves(server)
        for client in clients:
            assert said(client) == b""
        assert serves(server)


def test_a_head_that_comes_in_drops_has_the_same_deadline(server: Live) -> None:
    with connected(server, 1, b"GET /healthz HTTP/1.1\r\n") as (client,):
        until = time.monotonic() + SOON
        with pytest.raises(OSError, match=r"reset|pipe"):
            drip(client, until)


def drip(client: socket.socket, until: float) -> None:
    while time.monotonic() < until:
        client.sendall(b"X-A: b\r\n")
        time.sleep(0.1)


def test_a_second_head_on_the_same_connection_has_a_deadline_too(server: Live) -> None:
    whole = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with connected(server, 1, whole) as (client,):
        answer = b""
        while b"\r\n\r\n" not in answer or not answer.endswith(b"}"):  # it may come in pieces
            answer += client.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 200")
        client.sendall(b"GET /heal")
        started = time.monotonic()
        assert said(client) == b""
        assert time.monotonic() - started < 4  # uvicorn's own limit for idle connections is 5 s


def test_a_whole_head_is_not_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: a long poll outlasts the head's deadline, as it should."""
    monkeypatch.setattr(TimedProtocol, "head_seconds", 0.3)
    monkeypatch.setattr(middleware, "BODY_GRACE_SECONDS", 0.3)
    with live(tmp_path) as server:
        job = server.world.accept()
        started = time.monotonic()
        address = f"{server.url}/jobs/{job}?wait=1"
        answer = httpx.get(
            address, headers=bearer(server.key) | {"If-None-Match": "*"}, timeout=SOON
        )
        assert answer.status_code in (200, 304)
        assert time.monotonic() - started > 0.3


def test_many_bodies_that_never_come_are_refused_and_keep_nobody_waiting(server: Live) -> None:
    with connected(server, 40, head(server, 1000) + b"{") as clients:
        assert serves(server)
        for client in clients:
            answer = said(client)
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"/problems/body-too-slow" in answer
    assert server.world.stored()["jobs"] == 1


LIES = {
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "a negative length": b"Content-Length: -1\r\n\r\n",
    "a length that is a word": b"Content-Length: many\r\n\r\n",
    "a length with a sign": b"Content-Length: +5\r\n\r\n",
    "a coding that is unknown": b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "a chunk that is no number": b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "a header of 100 kB": b"X-A: " + b"a" * 100_000 + b"\r\n\r\n",
    "ten thousand headers": b"".join(b"X-%d: a\r\n" % n for n in range(10_000)) + b"\r\n",
    "a header over two lines": b"X-A: b\r\nX B: c\r\n\r\n",
    "a NUL in a header": b"X-A: a\x00b\r\n\r\n",
}


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("patient")) as running:
        yield running


@pytest.mark.parametrize("name", LIES)
def test_a_head_that_lies_is_refused(patient: Live, name: str) -> None:
    first = b"POST /unlearn HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + LIES[name]
    with connected(patient, 1, b"") as (client,):
        try:
            client.sendall(first)
        except OSError:
            pass  # It hung up before it had all of it.
        else:
            answer = said(client)
            assert not answer or answer[:13] in (
                b"HTTP/1.1 400 ",
                b"HTTP/1.1 431 ",
                b"HTTP/1.1 501 ",
            )
    assert serves(patient)


def test_what_follows_a_body_that_is_longer_than_it_says_is_no_request(patient: Live) -> None:
    smuggled = b"{}GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    with connected(patient, 1, head(patient, 2) + smuggled) as (client,):
        answer = said(client)
    # The rest is a request of its own, answered as one; it shares nothing with the first.
    assert answer.startswith(b"HTTP/1.1 422 ")
    assert answer.count(b"HTTP/1.1 ") <= 2
