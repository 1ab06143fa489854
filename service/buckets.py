"""Token buckets: so many a minute on average, and a minute's worth at once after a rest."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Final

_MAX_BUCKETS: Final = 10_000
_MINUTE_SECONDS: Final = 60


class Buckets:
    """One bucket for each name, full when the name is new; in this process's memory alone.

    Of more than ``_MAX_BUCKETS`` names the one that was quiet longest is forgotten, so that
    addresses made up by the million cost no memory.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        # What was left, and when.
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, per_minute: int) -> int:
        """Take one; 0, or, when there is none, the whole seconds until there will be one."""
        with self._lock:
            left = self._now(name, per_minute)
            if left < 1:
                return _seconds(left, per_minute)
            self._left[name] = (left - 1, self._clock())
            self._left.move_to_end(name)
            if len(self._left) > _MAX_BUCKETS:
                self._left.popitem(last=False)
            return 0

    def wait_seconds(self, name: str, per_minute: int) -> int:
        """The same without taking."""
        with self._lock:
            left = self._now(name, per_minute)
        return 0 if left >= 1 else _seconds(left, per_minute)

    def _now(self, name: str, per_minute: int) -> float:
        left, since = self._left.get(name, (math.inf, 0.0))
        refilled = (self._clock() - since) * per_minute / _MINUTE_SECONDS
        return min(float(per_minute), left + refilled)


def _seconds(left: float, per_minute: int) -> int:
    return max(1, math.ceil((1 - left) * _MINUTE_SECONDS / per_minute))
