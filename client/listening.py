"""Listening to a job's events through breaks and restarts of the service."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import httpx
from pydantic import ValidationError

from api_schemas.events import JobEvent
from client import watching
from client.errors import ProblemError, ServiceUnreachable
from client.exchange import COMING_BACK, Exchange, segment

#: The service is never silent for longer than a third of this.
SILENCE_SECONDS: Final = 45.0
_OVER: Final = 204


def events(exchange: Exchange, job_id: str, after: int) -> Iterator[JobEvent]:
    """The events with ids above ``after``, up to the final one, each once.

    Raises ``ServiceUnreachable``, ``ProblemError``.
    """
    heard = time.monotonic()
    while True:
        cause: Exception | None = None
        over = False
        try:
            for event in _once(exchange, job_id, after):
                heard = time.monotonic()
                if event is None:
                    continue
                if event.id > after:
                    after = event.id
                    yield event
                # Whether it was the last one the end of the stream tells: a retry may follow.
                over = event.is_final
            if over:
                return
        except _Over:
            return
        except httpx.TransportError as exc:
            cause = exc
        except ProblemError as exc:
            if exc.problem.status not in COMING_BACK:
                raise
            cause = exc
        if cause is not None and time.monotonic() - heard > watching.PATIENCE_SECONDS:
            raise ServiceUnreachable(exchange.base_url, type(cause).__name__) from cause
        # The stream broke, or the service ended it because it stops: where it was, it goes on.
        time.sleep(watching.PAUSE_SECONDS)


class _Over(Exception):
    """The final event was among those that the caller has."""


def _once(exchange: Exchange, job_id: str, after: int) -> Iterator[JobEvent | None]:
    """What one connection brings; None for a sign of life."""
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
    timeout = httpx.Timeout(exchange.timeout_seconds, read=SILENCE_SECONDS)
    address = f"/jobs/{segment(job_id)}/events"
    with exchange.stream(address, headers, timeout=timeout) as response:
        if response.status_code == _OVER:
            raise _Over
        data: list[str] = []
        for line in response.iter_lines():
            if line.startswith("data:"):
                data.append(line.removeprefix("data:").removeprefix(" "))
            elif not line and data:
                yield _parsed("\n".join(data))
                data = []
            elif line.startswith(":"):
                yield None


def _parsed(data: str) -> JobEvent:
    try:
        return JobEvent.model_validate_json(data)
    except ValidationError:
        raise httpx.RemoteProtocolError("not an event") from None
