"""Workers on one queue: real processes whose jobs wait, and a simulation of more of them."""

from __future__ import annotations

import heapq
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from api_schemas.jobs import JobStatus, Outcome
from benchmarks import world
from cli.stack import environment_for
from registry import installation, jobs
from registry.database import Database
from registry.settings import Settings

Row = dict[str, Any]
SHELF: Final = 16
JOB_SECONDS: Final = 2.0
_READY, _GO = "ready", "go"
_NAP_SECONDS: Final = 0.02


def measured(database: str, url: str | None, count: int, rounds: int) -> list[Row]:
    """Seconds that one worker and four take for ``count`` jobs, in turn."""
    return [
        {"database": database, "workers": workers, "jobs": count, "round": number,
         "job_seconds": JOB_SECONDS, "seconds": _emptied(url, workers, count)}
        for number in range(rounds)
        for workers in (1, 4)
    ]  # fmt: skip


def _emptied(url: str | None, workers: int, count: int) -> float:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="razor-workers-")))
        schema = None if url is None else stack.enter_context(world.private_schema(url))
        made = stack.enter_context(world.prepared(folder / "data", schema, SHELF))
        for number in range(count):
            made.accept(world.model_id(number % SHELF))
        running = [
            subprocess.Popen(
                [sys.executable, "-m", __name__],
                env=environment_for(made.settings),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(workers)
        ]
        try:
            for process in running:
                assert process.stdout is not None
                assert process.stdout.readline().strip() == _READY
            started = time.monotonic()
            for process in running:
                assert process.stdin is not None
                process.stdin.write(f"{_GO}\n")
                process.stdin.flush()
            assert all(process.wait(600) == 0 for process in running)
            return time.monotonic() - started
        finally:
            for process in running:
                process.kill()
                process.communicate()


def simulated(
    workers: int, count: int, job_seconds: float, lock_seconds: float, shelf: int
) -> float:
    """Seconds until ``count`` jobs are done, if a claim and an ending hold one lock for so long.

    The worst case, which is SQLite: every transaction waits for every other. A model has one job
    at a time.
    """
    free_at = lock = 0.0
    models = [0.0] * shelf
    ready = [0.0] * workers
    heapq.heapify(ready)
    heapq.heapify(models)
    for _ in range(count):
        start = max(heapq.heappop(ready), heapq.heappop(models), lock)
        lock = start + lock_seconds
        done = max(lock + job_seconds, lock) + lock_seconds
        heapq.heappush(ready, done)
        heapq.heappush(models, done)
        free_at = max(free_at, done)
    return free_at


def main() -> None:
    """Empty the queue: claim, wait, finish. The registry is real; the run is a wait."""
    settings = Settings()
    database = Database(settings.database, installation.load(settings.key_path))
    database.ping()
    print(_READY, flush=True)
    sys.stdin.readline()
    while (job := _claimed(database, settings)) is not None or _open(database):
        if job is None:
            time.sleep(_NAP_SECONDS)
            continue
        time.sleep(JOB_SECONDS)
        with database.transaction() as session:
            jobs.finish(
                session,
                job.id,
                job.token,
                status=JobStatus.SUCCEEDED,
                outcome=Outcome.NOTHING_TO_FORGET,
                now=datetime.now(UTC),
            )
    database.close()


def _claimed(database: Database, settings: Settings) -> jobs.Job | None:
    with database.transaction() as session:
        return jobs.claim(
            session,
            worker=str(os.getpid()),
            lease_seconds=settings.lease_seconds,
            now=datetime.now(UTC),
        )


def _open(database: Database) -> bool:
    """Whether a job still waits, for a model that another worker has."""
    with database.reading() as session:
        return jobs.counts(session, now=datetime.now(UTC)).by_status[JobStatus.QUEUED] > 0


if __name__ == "__main__":
    main()
