"""What the child tells its parent about its work, as figures: it says it once and never waits.

Each message is one datagram on a socket pair that was made before the fork. So a child that is
killed leaves whole messages or none, the next child finds the same socket, and a parent that does
not listen costs a message, never a job. Messages hold numbers, words of ours and ids of models on
the shelf.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime

from api_schemas.judged import judged
from api_schemas.reports import MetricResult, Report
from registry import jobs
from registry.database import Database
from worker.heartbeat import PHASES

log = logging.getLogger(__name__)

#: A phase that is not in the table; so no phase is ever a label of its own making.
OTHER_PHASE = "other"
#: How an attempt can end without an ending of its job.
RETRY, LOST = "retry", "lost"

_link: socket.socket | None = None


def through(link: socket.socket) -> None:
    """From now on, also in children that are forked later, messages go through this socket."""
    global _link
    link.setblocking(False)
    _link = link


def say(**message: object) -> None:
    """One message to the parent, dropped where there is none or it does not listen."""
    if _link is not None:
        with suppress(OSError):
            _link.send(json.dumps(message).encode())


class Attempt:
    """One claimed job on its way: how long it waited, each phase, how it ended."""

    def __init__(self, job: jobs.Job, now: datetime) -> None:
        self._job = job
        self._started = self._entered = time.monotonic()
        self._phase: str | None = None
        # An attempt after the first waited for its worker to be missed, not for its turn.
        waited = (now - job.created_at).total_seconds() if job.attempts == 1 else None
        say(woken="claimed", waited_seconds=waited)

    def enter(self, phase: str) -> None:
        """The run is in this phase; entering it again is no news."""
        known = phase if phase in PHASES else OTHER_PHASE
        if known != self._phase:
            self._leave()
            self._phase = known

    def over(self, database: Database) -> None:
        """The attempt is over; how it ended is read from the database, which knows best."""
        self._leave()
        try:
            with database.transaction() as session:
                job = jobs.get(session, self._job.id)
                report = jobs.report(session, self._job.id) if job.status.is_final else None
        except Exception:  # A figure is worth no job: this one is simply not counted.
            log.warning("the end of %s was not counted", self._job.id)
            return
        ended = job.status.value if job.status.is_final else RETRY
        if job.token != self._job.token:
            ended, report = LOST, None
        say(
            ended=ended,
            seconds=time.monotonic() - self._started,
            run=None if report is None else of_run(report),
            gpu=_gpu(),
        )

    def _leave(self) -> None:
        now = time.monotonic()
        if self._phase is not None:
            say(phase=self._phase, seconds=now - self._entered, gpu=_gpu())
        self._entered = now


def nothing_to_do() -> None:
    """A wake-up found no job: another one had come before it."""
    say(woken="dropped", waited_seconds=None)


def of_run(report: Report) -> dict[str, object]:
    """What is told of a run that left a report."""
    return {
        "model": report.model,
        "verdict": None if report.gate is None else report.gate.verdict.value,
        "patch_bytes": report.patch_bytes if report.edited else None,
        "peak_memory_bytes": report.cost.peak_memory_bytes,
        "figures": gated(report),
    }


def gated(report: Report) -> Mapping[str, tuple[float, float]]:
    """Before and after of each metric of the request's targets that the gate judged, as ratios.

    Of several targets, the one that came out worst. Metrics that are not in percent are left out.
    """
    found: dict[str, MetricResult] = {}
    for metric, check in judged(report)[0]:
        if check is None or metric.unit != "percent":
            continue
        known = found.get(metric.id)
        if known is None or _badness(metric) > _badness(known):
            found[metric.id] = metric
    return {
        name: (metric.before.value / 100, metric.after.value / 100)
        for name, metric in found.items()
    }


def _badness(metric: MetricResult) -> float:
    return -metric.after.value if metric.better == "higher" else metric.after.value


def _gpu() -> dict[str, int] | None:
    """What is used of the device that torch works on; None where it works on none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    free, total = torch.cuda.mem_get_info()
    return {"device": torch.cuda.current_device(), "used": total - free, "total": total}
