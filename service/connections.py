"""Connections that take their time: who does not send a whole request head soon is hung up on.

uvicorn bounds how long a connection may be idle between requests, and the head's size, but not
how long it may take to send one: thousands that send a byte now and then would use up the
process's files. How fast a body must come is for ``service.middleware``.
"""

from __future__ import annotations

import asyncio
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

#: From the connection, or from the first byte after an answer, to the end of the head (our choice:
#: far above what any client on any line needs).
HEAD_SECONDS: Final = 10.0


class TimedProtocol(H11Protocol):
    """HTTP/1.1 whose request heads have a deadline."""

    head_seconds = HEAD_SECONDS
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The time runs."""
        super().connection_made(transport)
        self._start()

    def data_received(self, data: bytes) -> None:
        """The time ends with the head, and runs again from the first byte of the next one."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop()
        elif self._deadline is None:
            self._start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is left to wait for."""
        self._stop()
        super().connection_lost(exc)

    def _start(self) -> None:
        self._deadline = self.loop.call_later(self.head_seconds, self._hang_up)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _hang_up(self) -> None:
        self._deadline = None
        self.transport.close()
