"""Waiting for rows to change: one question to the database for all who wait, not one each."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from starlette.concurrency import run_in_threadpool

from service import logs

logger = logging.getLogger("razor.watching")

POLL_SECONDS: Final = 0.25

Seen = TypeVar("Seen")


class _Waiter(Generic[Seen]):
    """Somebody who has seen this, and is told when there is something else."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()


class Watch(Generic[Seen]):
    """Tells callers on the event loop when what ``look`` finds under a key is news to them.

    ``look`` is asked in a thread every ``POLL_SECONDS`` while anybody waits, for all their keys
    together; so who waits holds no thread, no connection and no transaction, and hundreds cost the
    database what one does. While it fails, they wait on.
    """

    def __init__(
        self, look: Callable[[Sequence[str]], Mapping[str, Seen]], stopping: threading.Event
    ) -> None:
        self._look = look
        self._stopping = stopping
        self._waiting: dict[str, set[_Waiter[Seen]]] = {}
        self._poller: asyncio.Task[None] | None = None

    async def changed(self, key: str, seen: Seen, timeout_seconds: float) -> bool:
        """Whether something else than ``seen`` was found under the key before the time was over.

        False at once when the service winds down.
        """
        waiter = _Waiter(seen)
        self._waiting.setdefault(key, set()).add(waiter)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        try:
            async with asyncio.timeout(timeout_seconds):
                return await waiter.told
        except TimeoutError:
            return False
        finally:
            self._waiting[key].discard(waiter)
            if not self._waiting[key]:
                del self._waiting[key]

    async def _poll(self) -> None:
        failures = 0
        while self._waiting:
            await asyncio.sleep(POLL_SECONDS)
            if self._stopping.is_set():
                self._tell(list(self._waiting), {})
                continue
            keys = list(self._waiting)
            try:
                found = await run_in_threadpool(self._look, keys)
            except Exception as exc:  # The database may be back at the next round.
                failures += 1
                if failures == 1:
                    logger.warning("cannot look", extra={"error": logs.describe(exc)})
            else:
                failures = 0
                self._tell([key for key in keys if key in found], found)

    def _tell(self, keys: Sequence[str], found: Mapping[str, Seen]) -> None:
        for key in keys:
            for waiter in self._waiting.get(key, ()):
                if not waiter.told.done() and (key not in found or found[key] != waiter.seen):
                    waiter.told.set_result(key in found)
