"""Around every request: its id, its limits, its log line, its figures. Pure ASGI."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import errors, logs, problems
from service.metrics import Measures

logger = logging.getLogger("razor.http")

#: What an incoming X-Request-ID may be; anything else could smuggle data into the logs.
_SANE_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: Far above what clients and proxies send. The server's own bound does not hold for a head that
#: comes in one piece.
MAX_HEADERS: Final = 200
MAX_HEAD_BYTES: Final = 2**16
#: A body must come at this pace (ours: a modem's), after so much time to begin with.
MIN_BODY_BYTES_PER_SECOND: Final = 4096
BODY_GRACE_SECONDS: Final = 30.0
#: nginx's code for a caller who left before the answer; nothing is sent with it.
CLIENT_LEFT: Final = 499


class BrokenStreamError(Exception):
    """The response broke off after it had begun; the connection is cut so that it shows."""


class Edge:
    """Gives each request an id, answers what nothing else answered, logs and measures it.

    No exception that could quote a request leaves here: the server would log its message.
    """

    def __init__(self, app: ASGIApp, measures: Measures) -> None:
        self._app = app
        self._measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        token = logs.request_id.set(exchange.request_id)
        started = time.perf_counter()
        try:
            await self._answer(scope, exchange)
        finally:
            self._record(scope, exchange, time.perf_counter() - started)
            logs.request_id.reset(token)

    async def _answer(self, scope: Scope, exchange: _Exchange) -> None:
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            exchange.status = exchange.status or CLIENT_LEFT
        except Exception as exc:
            logger.error("request failed", extra={"error": logs.describe(exc)})
            if exchange.status is not None:
                raise BrokenStreamError from None
            response = problems.response_to(errors.InternalError(), scope)
            await response(scope, exchange.receive, exchange.send)

    def _record(self, scope: Scope, exchange: _Exchange, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        status = exchange.status or CLIENT_LEFT
        self._measures.request(scope["method"], route, status, seconds)
        logger.info(
            "request",
            extra={
                "method": scope["method"],
                "route": route,
                "status": status,
                "seconds": round(seconds, 4),
            },
        )


class _Exchange:
    """One request and its response: what has been read, what has been sent."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        self.request_id = given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex
        # A dict of this request's own; the server may share the outer one between requests.
        scope["state"] = {**scope.get("state", {}), "request_id": self.request_id}
        self.status: int | None = None
        self._unread = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        self._receive = receive
        self._send = send

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.request_id
            headers["x-content-type-options"] = "nosniff"
            if self._unread:
                # Otherwise the server would go on reading a body that nobody wants.
                headers["connection"] = "close"
        await self._send(message)


class Bounds:
    """Refuses a head that is too large, and cuts a body off at ``max_bytes``.

    By its declared length at once, else while it streams.

    And one that comes too slowly: after ``BODY_GRACE_SECONDS`` it must have come at a pace that no
    line is below, so that whoever drips a byte now and then does not hold a request for good.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _too_large(scope):
            await problems.response_to(errors.HeadTooLarge(), scope)(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdecimal() and int(declared) > self._max_bytes:
            await problems.response_to(errors.BodyTooLarge(), scope)(scope, receive, send)
            return
        taken = 0
        whole = False
        began = time.monotonic()

        async def limited() -> Message:
            nonlocal taken, whole
            if whole:
                # Waiting for the caller to leave, as event streams do, may take for ever.
                return await receive()
            pace = BODY_GRACE_SECONDS + taken / MIN_BODY_BYTES_PER_SECOND
            try:
                async with asyncio.timeout(began + pace - time.monotonic()):
                    message = await receive()
            except TimeoutError:
                raise errors.BodyTooSlow from None
            if message["type"] == "http.request":
                whole = not message.get("more_body", False)
                taken += len(message.get("body", b""))
                if taken > self._max_bytes:
                    # Raised into whoever reads the body; the exception handler answers 413.
                    raise errors.BodyTooLarge
            return message

        await self._app(scope, limited, send)


def _too_large(scope: Scope) -> bool:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    size_bytes = sum(len(name) + len(value) for name, value in headers)
    size_bytes += len(scope.get("raw_path") or b"") + len(scope["query_string"])
    return len(headers) > MAX_HEADERS or size_bytes > MAX_HEAD_BYTES
