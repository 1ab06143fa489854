"""Keeps a claim alive: extends the lease, writes progress, learns that the job is to stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from sqlalchemy.exc import SQLAlchemyError

from razor.errors import Cancelled
from registry import failpoints, jobs
from registry.database import Database
from registry.errors import LeaseLost

log = logging.getLogger(__name__)

#: Where each phase of a run begins and ends on the way from 0 to 1, roughly by its share of time.
PHASES: Mapping[str, tuple[float, float]] = {
    "load": (0.0, 0.15),
    "preflight": (0.15, 0.25),
    "score": (0.25, 0.35),
    "edit": (0.35, 0.85),
    "evaluate": (0.85, 0.95),
    "store": (0.95, 1.0),
}


class Heartbeat:
    """A context manager around one claimed job; ``tick`` is the run's callback.

    ``entered`` hears of the phase at each tick.

    The thread beats every ``interval`` seconds. A database that does not answer is tried again
    until the lease would have run out: then somebody else may hold the job, and the run stops.
    """

    def __init__(
        self,
        database: Database,
        job: jobs.Job,
        *,
        lease_seconds: float,
        interval: float,
        entered: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._database, self._job = database, job
        self._lease_seconds, self._interval = lease_seconds, interval
        self._entered = entered
        self._phase, self._fraction = "load", 0.0
        self._started = time.monotonic()
        self._canceled = threading.Event()
        self._lost = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def tick(self, phase: str, fraction: float, figures: Mapping[str, float]) -> None:
        """Note progress. Raises Cancelled or LeaseLost, which end the run between two steps."""
        start, stop = PHASES.get(phase, (self._fraction, self._fraction))
        self._phase = phase
        self._entered(phase)
        self._fraction = max(self._fraction, start + (stop - start) * min(1.0, fraction))
        if phase == "edit":
            failpoints.reach(failpoints.Point.MID_EDIT)
        self.check()

    def check(self) -> None:
        """Raises Cancelled or LeaseLost; cheap enough to be asked between any two batches."""
        if self._lost.is_set():
            raise LeaseLost(self._job.id, self._job.token)
        if self._canceled.is_set():
            raise Cancelled

    def pause(self, seconds: float) -> None:
        """Hold the job and do nothing. Raises Cancelled or LeaseLost as soon as that is known."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.check()
            time.sleep(min(self._interval, left))
        self.check()

    def _loop(self) -> None:
        last = time.monotonic()
        wait = 0.0
        while not self._stop.wait(wait):
            wait = self._interval
            try:
                self._beat()
                last = time.monotonic()
            except LeaseLost:
                self._lost.set()
                return
            except SQLAlchemyError:
                log.warning("heartbeat of %s did not reach the database", self._job.id)
                wait = min(1.0, self._interval)
                if time.monotonic() - last > self._lease_seconds:
                    self._lost.set()
                    return

    def _beat(self) -> None:
        with self._database.transaction() as session:
            canceled = jobs.heartbeat(
                session,
                self._job.id,
                self._job.token,
                lease_seconds=self._lease_seconds,
                phase=self._phase,
                fraction=self._fraction,
                eta_seconds=self._eta(),
                now=datetime.now(UTC),
            )
        if canceled:
            self._canceled.set()

    def _eta(self) -> float | None:
        """From the pace so far; unknown until there is one."""
        if self._fraction < 0.05:
            return None
        elapsed = time.monotonic() - self._started
        return elapsed * (1 - self._fraction) / self._fraction
