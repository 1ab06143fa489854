"""Bodies over the limit are cut off: 413, and not a byte is read on."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from front_world import World, as_files, fields, pictures, world
from live_front import Live, live

CHUNK = 16_384
LIMIT = 4 * CHUNK
HEADERS = [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]


class Feed:
    """A client that sends without end, and counts what is taken from it."""

    def __init__(self, first: bytes = b"") -> None:
        self._first = first
        self.chunks = 0
        self.answers: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        self.chunks += 1
        body = self._first.ljust(CHUNK) if self.chunks == 1 else b" " * CHUNK
        return {"type": "http.request", "body": body, "more_body": True}

    async def send(self, message: dict[str, Any]) -> None:
        self.answers.append(message)

    def post(self, made: World, headers: list[tuple[bytes, bytes]]) -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/unlearn",
            "raw_path": b"/unlearn",
            "query_string": b"",
            "headers": [*headers, (b"authorization", b"Bearer " + made.key.encode())],
            "server": ("test", 80),
            "client": ("test", 1),
        }
        asyncio.run(made.app(scope, self.receive, self.send))

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.answers[0]["headers"])


@pytest.fixture
def front(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, max_body_bytes=LIMIT) as made:
        yield made


PART = b'--x\r\nContent-Disposition: form-data; name="samples"; filename="a"\r\n\r\n'


@pytest.mark.parametrize(
    ("kind", "first"),
    [(b"application/json", b"{"), (b"multipart/form-data; boundary=x", PART)],
)
def test_an_endless_body_is_cut_off_at_the_limit(front: World, kind: bytes, first: bytes) -> None:
    before = front.stored()
    feed = Feed(first)
    feed.post(front, [(b"content-type", kind), HEADERS[1]])
    assert feed.answers[0]["status"] == 413
    assert json.loads(feed.answers[1]["body"])["type"] == "/problems/body-too-large"
    assert feed.chunks == LIMIT // CHUNK + 1
    assert feed.headers[b"connection"] == b"close"
    assert front.stored() == before


def test_a_body_declared_too_long_is_not_read_at_all(front: World) -> None:
    feed = Feed()
    feed.post(front, [HEADERS[0], (b"content-length", str(LIMIT + 1).encode())])
    assert feed.answers[0]["status"] == 413
    assert feed.chunks == 0


def test_a_body_of_the_wrong_type_is_not_read_at_all(front: World) -> None:
    feed = Feed()
    feed.post(front, [(b"content-type", b"text/plain"), HEADERS[1]])
    assert feed.answers[0]["status"] == 415
    assert feed.chunks == 0
    assert feed.headers[b"connection"] == b"close"


def test_a_body_at_the_limit_is_taken(tmp_path: Path) -> None:
    """The negative control: one byte less than too long is not too long."""
    with world(tmp_path) as made:
        assert made.http is not None
        request = made.http.build_request(
            "POST", "/unlearn", data={"request": json.dumps(fields())}, files=as_files(pictures(3))
        )
        size = len(request.read())
    for limit, status in ((size, 202), (size - 1, 413)):
        with world(tmp_path / str(limit), max_body_bytes=limit) as made:
            assert made.http is not None
            request.headers["authorization"] = made.http.headers["authorization"]
            assert made.http.send(request).status_code == status


def test_a_request_part_over_one_mebibyte_is_refused(tmp_path: Path) -> None:
    text = json.dumps(fields()) + " " * 2**20
    with world(tmp_path) as made:
        assert made.http is not None
        for name in (None, "request.json"):
            part = ("request", (name, text, "application/json"))
            answer = made.http.post("/unlearn", files=[part, *as_files(pictures(3))])
            assert answer.status_code == 400
            assert answer.json()["type"] == "/problems/malformed-multipart"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Live]:
    with live(tmp_path, max_body_bytes=LIMIT) as running:
        yield running


def test_a_real_server_stops_reading_and_hangs_up(server: Live) -> None:
    head = (
        b"POST /unlearn HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n" % server.key.encode()
    )
    with socket.create_connection((server.host, server.port), timeout=10) as client:
        client.sendall(head)
        with pytest.raises(OSError, match=r"reset|pipe"):
            send_megabytes(client, 64)
    assert server.world.stored()["jobs"] == 0


def send_megabytes(client: socket.socket, megabytes: int) -> None:
    """Far more than the buffers of both ends hold: it returns only if the server reads on."""
    chunk = b"%x\r\n" % CHUNK + b" " * CHUNK + b"\r\n"
    for _ in range(megabytes * 2**20 // CHUNK):
        client.sendall(chunk)


def test_a_real_client_reads_the_refusal(server: Live) -> None:
    head = (
        b"POST /unlearn HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % (LIMIT + 1)
    )
    with socket.create_connection((server.host, server.port), timeout=10) as client:
        client.sendall(head)
        answer = b""
        while piece := client.recv(65_536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"/problems/body-too-large" in answer
    assert b"connection: close" in answer.lower()
