"""PostgreSQL connections that give up waiting: a server that falls silent must not keep a thread.

libpq waits for an answer for as long as the connection stands, and it stands while the other
side's machine acknowledges packets, whatever becomes of the server on it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from typing import Any, Final, TypeVar

import psycopg

#: How often a wait looks at the clock.
LOOK_SECONDS: Final = 0.1
#: For a connection to come about; libpq counts whole seconds, at least two.
CONNECT_SECONDS: Final = 5

T = TypeVar("T")


class _Silent(Exception):
    """No answer came in time."""


class PatientConnection(psycopg.Connection[Any]):
    """Raises ``psycopg.OperationalError`` when an answer takes longer than ``wait_seconds``.

    It is closed then: nobody knows what the server has made of the statement. A transaction that
    was open is rolled back by the server when it notices.
    """

    wait_seconds: float = math.inf

    def wait(
        self,
        gen: Generator[Any, Any, T],
        interval: float = LOOK_SECONDS,
        timeout: float | None = None,
    ) -> T:
        """Drive one exchange with the server to its end; ``timeout`` is the library's own."""
        seconds = self.wait_seconds if timeout is None else min(timeout, self.wait_seconds)
        limited = _limited(gen, time.monotonic() + seconds)
        try:
            return super().wait(limited, min(interval, LOOK_SECONDS))
        except _Silent:
            self.pgconn.finish()
        raise psycopg.OperationalError("the database did not answer in time")


def connect(wait_seconds: float, **parameters: Any) -> PatientConnection:
    """A new connection with these parameters of libpq."""
    parameters.setdefault("connect_timeout", CONNECT_SECONDS)
    connection = PatientConnection.connect(**parameters)
    connection.wait_seconds = wait_seconds
    return connection


def _limited(gen: Generator[Any, Any, T], until: float) -> Generator[Any, Any, T]:
    """The same exchange; ends in ``_Silent`` when nothing has come by then."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > until:
                gen.close()
                raise _Silent
            wanted = gen.send(ready)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
