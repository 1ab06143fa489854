"""What a run costs: seconds by phase, passes, peak memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


class Clock:
    """Adds up seconds by phase: those that passed, and those that the process's threads computed.

    The latter stay nearly the same when others share the machine.
    """

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self.phases: dict[str, float] = {}
        self.computed: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Counts the time inside for ``name``."""
        start, computed = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            for total, spent in (
                (self.phases, time.perf_counter() - start),
                (self.computed, time.process_time() - computed),
            ):
                total[name] = total.get(name, 0.0) + spent

    def total(self) -> float:
        """Seconds since the clock was made."""
        return time.perf_counter() - self._start


def reset_peak_memory() -> None:
    """Starts a new high-water mark where the system can (Linux); else the old one stays."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        CLEAR.write_text("5")
    except OSError:
        return


def peak_memory_bytes() -> int:
    """Largest resident size since the reset, in bytes; on a GPU, the device's peak added."""
    device = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    try:
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 + device
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + device
