"""How long a call takes, by the clock and by what the process's threads computed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Took:
    """Seconds that passed, and seconds of processor time: the latter are of this process alone."""

    passed: float
    computed: float

    def each(self, count: int) -> Took:
        """Of one of so many."""
        return Took(self.passed / count, self.computed / count)


def median(call: Callable[[], object], repeats: int) -> Took:
    """The medians of so many calls."""
    passed, computed = [], []
    for _ in range(repeats):
        began, spent = time.perf_counter(), time.process_time()
        call()
        passed.append(time.perf_counter() - began)
        computed.append(time.process_time() - spent)
    return Took(statistics.median(passed), statistics.median(computed))
