"""Runs jobs on several processes; each finished one is a file, so a stopped benchmark goes on."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from razor.bench.plan import Job

#: (jobs done, jobs in all, what just ended)
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Pool:
    """Where files go, how many processes there are, who is told; or that nothing is run."""

    work: Path
    processes: int
    progress: Progress
    idle: bool = False

    def rows(self, jobs: Sequence[Job], work: Callable[[Job, Path], None]) -> list[dict[str, Any]]:
        """The rows of every job, from its file where it has run before; idle, of those alone.

        ``work(job, path)`` runs one in a process of its own and writes its file.
        """
        paths = [self.file(job) for job in jobs]
        open_jobs = [(j, p) for j, p in zip(jobs, paths, strict=True) if not p.exists()]
        if not self.idle:
            self.each(
                [partial(work, job, path) for job, path in open_jobs],
                [f"{job.method} {job.variant} {job.targets[0]}" for job, _ in open_jobs],
            )
        done = [path for path in paths if path.exists()]
        return [row for path in done for row in json.loads(path.read_text(encoding="utf-8"))]

    def file(self, job: Job) -> Path:
        """Where a finished job lies."""
        return self.work / "rows" / f"{job.key()}.json"

    def each(self, calls: Sequence[Callable[[], None]], labels: Sequence[str]) -> None:
        """Runs the calls, each in some process; the first that fails stops the others."""
        if not calls:
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self.processes, context, _start) as pool:
            futures: dict[Future[None], str] = {
                pool.submit(call): label for call, label in zip(calls, labels, strict=True)
            }
            try:
                for done, future in enumerate(as_completed(futures), start=1):
                    future.result()
                    self.progress(done, len(calls), futures[future])
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """In one step, so that a stop leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_file = path.with_suffix(f".{os.getpid()}")
    partial_file.write_text(json.dumps(rows) + "\n", encoding="utf-8")
    partial_file.replace(path)


def _start() -> None:
    """One thread a process: two beside each other wait for one another more than they compute."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch

    torch.set_num_threads(1)
