"""What a model has room for: where the device's memory is short, its rows go through in halves.

A row's result depends on no other row of a forward pass, so parts give the same figures up to
rounding; where a gradient is wanted, each part's activations are computed again on the way back
(arXiv 1604.06174), so that no more than one part's are ever held.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from razor.errors import OutOfMemory

log = logging.getLogger(__name__)

T = TypeVar("T")
#: How torch says on the host what OutOfMemoryError says on a GPU.
_HOST_WORDS = ("can't allocate memory", "not enough memory", "std::bad_alloc")


class Room:
    """How many rows one network takes at once; without a limit until one was found."""

    def __init__(self) -> None:
        self.rows: int | None = None
        self._most = 0  # rows that were last tried at once

    def forget(self) -> None:
        """A new run finds out by itself: what it computes must not depend on runs before."""
        self.rows = None

    def through(
        self, count: int, run: Callable[[range], Tensor], at_once: int | None = None
    ) -> Tensor:
        """``run`` over all rows, its results put together; in parts where there is a limit.

        ``at_once``: no more than so many hold what a gradient needs. Without a gradient a shortage
        is met here; with one it is raised, and ``trying`` meets it: most comes on the way back.
        """
        if not torch.is_grad_enabled():
            return torch.cat(self.parts(count, count, run))
        limit = min(self.rows or count, at_once or count)
        self._most = max(self._most, min(count, at_once or count))
        if limit >= count:
            return run(range(count))
        return torch.cat(
            [checkpoint(run, rows, use_reentrant=False) for rows in _ranges(0, count, limit)]
        )

    def parts(self, count: int, at_once: int, run: Callable[[range], T]) -> list[T]:
        """``run`` over all rows, at most ``at_once`` and as many as fit, in order; no gradient.

        Raises OutOfMemory where not even one fits.
        """
        found: list[T] = []
        done = 0
        while done < count:
            limit = min(at_once, self.rows or at_once)
            rows = range(done, min(count, done + limit))
            self._most = len(rows)
            part = self._tried(lambda rows=rows: run(rows))  # type: ignore[misc]
            if part:
                found += part
                done = rows.stop
        return found

    def trying(self, run: Callable[[], T]) -> T:
        """``run``, again with half as many rows for as long as memory is short.

        Raises OutOfMemory where not even one row fits.
        """
        while True:
            self._most = 0
            if found := self._tried(run):
                return found[0]

    def _tried(self, run: Callable[[], T]) -> list[T]:
        """What came of it, alone in a list; none where memory was short and rows were halved."""
        try:
            return [run()]
        except Exception as error:
            if not is_shortage(error):
                raise
        # Outside of the handler: the error holds on to what filled the memory.
        gc.collect()
        torch.cuda.empty_cache()  # does nothing where no GPU is in use
        at_once = min(self.rows or self._most, self._most)
        if at_once <= 1:
            raise OutOfMemory
        self.rows = at_once // 2
        log.warning("memory is short; going on with %d rows at once", self.rows)
        return []


_ROOMS: WeakKeyDictionary[nn.Module, Room] = WeakKeyDictionary()


def of(model: nn.Module) -> Room:
    """The network's own."""
    return _ROOMS.setdefault(model, Room())


def is_shortage(error: BaseException) -> bool:
    """Whether it says that memory, of a GPU or of the host, was not enough."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _HOST_WORDS)


def _ranges(start: int, stop: int, size: int) -> list[range]:
    return [range(k, min(stop, k + size)) for k in range(start, stop, size)]
