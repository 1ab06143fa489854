"""Waiting for a job by long polls, through restarts of the service."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

import httpx

from api_schemas.jobs import JobView
from client.errors import ProblemError, ServiceUnreachable, WaitTimeout
from client.exchange import Exchange, comes_back, parsed, segment

#: One long poll; the service allows up to 60.
POLL_SECONDS: Final = 30.0
#: How long a service may be away: a restart, a deployment.
PATIENCE_SECONDS: Final = 120.0
#: Between looks at a service that is away, or that answers at once because it is stopping.
PAUSE_SECONDS: Final = 0.5

_UNCHANGED: Final = 304


def look(
    exchange: Exchange,
    job_id: str,
    *,
    wait_seconds: float,
    etag: str | None = None,
    retry: bool = True,
) -> httpx.Response:
    """The job at its next change, or as it is when ``wait_seconds`` are over.

    With ``etag`` the answer is 304 when the job is still what that tag says.
    """
    return exchange.send(
        "GET",
        f"/jobs/{segment(job_id)}",
        retry=retry,
        accept=frozenset({_UNCHANGED}),
        params={"wait": wait_seconds} if wait_seconds > 0 else {},
        headers={"If-None-Match": etag} if etag else {},
        # The service stays silent while it waits; only then does its silence mean something.
        timeout=httpx.Timeout(
            exchange.timeout_seconds, read=wait_seconds + exchange.timeout_seconds
        ),
    )


def watch(
    exchange: Exchange,
    job_id: str,
    on_change: Callable[[JobView], object] | None,
    timeout_seconds: float | None,
) -> JobView:
    """The finished job. Raises ``WaitTimeout``, ``ServiceUnreachable``, ``ProblemError``."""
    until = time.monotonic() + (math.inf if timeout_seconds is None else timeout_seconds)
    job: JobView | None = None
    etag: str | None = None
    heard = time.monotonic()
    while True:
        asked = time.monotonic()
        left = until - asked
        wait_seconds = 0.0 if job is None else max(0.0, min(POLL_SECONDS, left))
        try:
            response = look(exchange, job_id, wait_seconds=wait_seconds, etag=etag, retry=False)
        except (ServiceUnreachable, ProblemError) as exc:
            if not _is_away(exc) or asked - heard > PATIENCE_SECONDS:
                raise
            if left <= 0:
                raise _timeout(job, timeout_seconds, exc) from exc
            time.sleep(min(PAUSE_SECONDS, left))
            continue
        heard = time.monotonic()
        if response.status_code != _UNCHANGED:
            job, etag = _seen(response, on_change)
            if job.status.is_final:
                return job
        elif heard - asked < PAUSE_SECONDS <= wait_seconds:
            time.sleep(PAUSE_SECONDS)
        if left <= 0:
            raise _timeout(job, timeout_seconds, None)


def _seen(
    response: httpx.Response, on_change: Callable[[JobView], object] | None
) -> tuple[JobView, str | None]:
    job = parsed(response, JobView)
    if on_change is not None:
        on_change(job)
    return job, response.headers.get("etag")


def _is_away(exc: ServiceUnreachable | ProblemError) -> bool:
    return isinstance(exc, ServiceUnreachable) or comes_back(exc.problem)


def _timeout(
    job: JobView | None, timeout_seconds: float | None, cause: Exception | None
) -> Exception:
    """The error for a wait that is over; without a single look at the job, its cause."""
    if job is None:
        assert cause is not None
        return cause
    assert timeout_seconds is not None
    return WaitTimeout(job, timeout_seconds)
