"""Around every request: its id, its limits, its log line, its figures. Pure ASGI."""

from __future__ import annotations

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


class BodyLimit:
    """Cuts a body off at ``max_bytes``: by its declared length at once, else while it streams."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdecimal() and int(declared) > self._max_bytes:
            await problems.response_to(errors.BodyTooLarge(), scope)(scope, receive, send)
            return
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                if taken > self._max_bytes:
                    # Raised into whoever reads the body; the exception handler answers 413.
                    raise errors.BodyTooLarge
            return message

        await self._app(scope, limited, send)
