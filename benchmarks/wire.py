"""The clients: as little of their own as possible, so that the servers are what is timed."""

from __future__ import annotations

import asyncio
import http.client
import socket
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

TIMEOUT_SECONDS: Final = 60.0
#: Servers let go of a connection that is silent for five seconds.
IDLE_SECONDS: Final = 3.0
_BLOCK_BYTES: Final = 2**20


@dataclass
class Caller:
    """One connection that is kept open; not shared between threads."""

    port: int
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._wire = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
        self._used = 0.0

    def _connected(self) -> http.client.HTTPConnection:
        """The connection, made anew where the server may have let go of it; that is not timed."""
        if time.monotonic() - self._used > IDLE_SECONDS:
            self._wire.close()
            self._wire.connect()
            self._wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._used = time.monotonic()
        return self._wire

    def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        expected: int = 200,
    ) -> tuple[float, bytes]:
        """Seconds until the last byte of the answer, and the answer's body."""
        wire = self._connected()
        started = time.perf_counter()
        wire.request(method, path, body, {**self.headers, **(headers or {})})
        answer = wire.getresponse()
        text = answer.read()
        seconds = time.perf_counter() - started
        self._used = time.monotonic()
        if answer.status != expected:
            raise AssertionError(f"{method} answered {answer.status}: {text[:500]!r}")
        return seconds, text

    def drain(self, path: str, headers: Mapping[str, str], expected: int) -> tuple[float, int]:
        """The same for a long answer whose bytes are counted and dropped."""
        wire = self._connected()
        started = time.perf_counter()
        wire.request("GET", path, headers={**self.headers, **headers})
        answer, count = wire.getresponse(), 0
        assert answer.status == expected, answer.status
        while block := answer.read(_BLOCK_BYTES):
            count += len(block)
        self._used = time.monotonic()
        return time.perf_counter() - started, count

    def close(self) -> None:
        """Hang up."""
        self._wire.close()


def multipart(request: bytes, pictures: Iterable[bytes]) -> tuple[bytes, dict[str, str]]:
    """The body of ``POST /unlearn`` in its common form, and the header that goes with it."""
    boundary = uuid.uuid4().hex
    parts = [_part(boundary, 'name="request"', "application/json", request)]
    parts += [
        _part(boundary, f'name="samples"; filename="{number}.jpg"', "image/jpeg", picture)
        for number, picture in enumerate(pictures)
    ]
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    return body, {"content-type": f"multipart/form-data; boundary={boundary}"}


def _part(boundary: str, name: str, kind: str, content: bytes) -> bytes:
    head = f"--{boundary}\r\ncontent-disposition: form-data; {name}\r\ncontent-type: {kind}\r\n\r\n"
    return head.encode() + content + b"\r\n"


class Listeners:
    """Many open streams, whose bytes are counted and dropped. An async context manager."""

    def __init__(self, port: int, paths: Iterable[str], headers: Mapping[str, str]) -> None:
        self._port, self._paths, self._headers = port, list(paths), headers
        self._tasks: list[asyncio.Task[None]] = []
        self.heard = 0

    async def __aenter__(self) -> Listeners:
        self._tasks = [asyncio.create_task(self._listen(path)) for path in self._paths]
        until = time.monotonic() + TIMEOUT_SECONDS
        # Each is told something as soon as it is connected.
        while self.heard < len(self._tasks):
            for task in self._tasks:
                if task.done():
                    task.result()
            assert time.monotonic() < until, f"{self.heard} of {len(self._tasks)} streams began"
            await asyncio.sleep(0.05)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(self, path: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            head = {"host": "127.0.0.1", "accept": "text/event-stream", **self._headers}
            lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
            writer.write(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in answer.split(b"\r\n", 1)[0], answer
            await reader.read(_BLOCK_BYTES)
            self.heard += 1
            while await reader.read(_BLOCK_BYTES):
                pass
        finally:
            writer.close()
