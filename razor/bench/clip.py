"""The CLIP benchmark: plans, runs what is not there yet on several processes, writes the document.

Every finished job is one file in the work folder, so a stopped benchmark goes on where it was.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from api_schemas.methods import Method, Slug
from api_schemas.requests import Probe
from razor.bench import plan
from razor.bench.landed import read, taken_over
from razor.bench.plan import COMPARISON, DEVELOPMENT, SMALL, Drawings, Job

#: (jobs done, jobs in all, what just ended)
Progress = Callable[[int, int, str], None]

#: Targets that the rivals' grids are tuned on, and that the ablations run on.
TUNED_ON = ("Kofi Dunmore", "Dario Finch")
ABLATED_ON = 6
SEEDS = 3


@dataclass(frozen=True)
class Bench:
    """One benchmark: where it works, on how many processes, who is told."""

    work: Path
    processes: int
    progress: Progress
    data: Path | None = None
    earlier: Path | None = None  # raw rows of an earlier document

    def quick(self) -> list[dict[str, Any]]:
        """Four targets, every method with its default settings, one seed; half of the pictures."""
        self._prepare(SMALL)
        targets, rivals = plan.QUICK, plan.RIVALS
        jobs = [
            *plan.pairs(targets, rivals["slug"], 0),
            *plan.golds(targets),
            *plan.others(targets, rivals),
        ]
        # Relearning takes as long as all the rest of a run.
        probes = tuple(probe for probe in Probe if probe is not Probe.RELEARN)
        return self._run([replace(job, probes=probes, small=True) for job in jobs])

    def full(self) -> list[dict[str, Any]]:
        """Everything: grids, all targets, seeds, ablations, several targets, faces."""
        # Imported here: the grids are the methods' side of the benchmark.
        from razor.methods.grids import GRIDS

        people = plan.people()
        self._prepare(DEVELOPMENT, COMPARISON)
        golds = plan.golds(people)
        self._take_over([*plan.tuning(TUNED_ON, GRIDS), *golds])
        self._train(golds)
        tuned = self._run(plan.tuning(TUNED_ON, GRIDS))
        rivals = best(GRIDS, tuned)
        for row in tuned:
            row["setting"] = row["params"]
            row["chosen"] = row["params"] == plan.named(rivals[row["method"]])
        # What says most comes first: a benchmark that is stopped early can still be read.
        jobs = [*plan.pairs(people, rivals["slug"], 0), *golds]
        if rivals["slug"] != Slug():
            jobs += plan.published(people)
        if self.data is not None:
            from razor.bench.world import face_groups

            names = [name for group in face_groups(self.data) for name in group]
            jobs += plan.faces(names)
        jobs += [*plan.several(), *plan.ablations(people[:ABLATED_ON])]
        jobs += plan.others(people, rivals)
        for seed in range(1, SEEDS):
            jobs += plan.pairs(people, rivals["slug"], seed)
        return [*tuned, *self._run(jobs)]

    def _prepare(self, *worlds: Drawings) -> None:
        """Draws what several processes would otherwise draw at once."""
        from razor.bench.world import retain_folder

        self.work.mkdir(parents=True, exist_ok=True)
        for drawn in worlds:
            retain_folder(self.work, drawn)

    def _take_over(self, jobs: Sequence[Job]) -> None:
        """Writes the earlier rows of jobs that have not run, as if these had just ended."""
        if self.earlier is None:
            return
        rows = read(self.earlier)
        for job in jobs:
            row = taken_over(rows, job)
            if row is not None and not self._file(job).exists():
                _write(self._file(job), [row])

    def _train(self, golds: Sequence[Job]) -> None:
        """The gold models of rows still to be run, and those on faces; what is there stays."""
        from razor.bench import world

        asked = {job.targets[0] for job in golds if not self._file(job).exists()}
        trainings: list[Callable[[], None]] = [
            partial(world.train_golds, self.work, number)
            for number, group in enumerate(plan.GROUPS)
            if asked & set(group) and not world.gold_folder(self.work, number).exists()
        ]
        if self.data is not None:
            trainings += [
                partial(world.train_faces, self.work, self.data, number)
                for number in range(len(world.face_groups(self.data)) + 1)
                if not world.face_folder(self.work, number).exists()
            ]
        self._each(trainings, ["training"] * len(trainings))

    def _run(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        """The rows of every job, from its file where it has run before."""
        paths = [self._file(job) for job in jobs]
        open_jobs = [(j, p) for j, p in zip(jobs, paths, strict=True) if not p.exists()]
        calls = [partial(_work, self.work, self.data, job, path) for job, path in open_jobs]
        labels = [f"{job.method} {job.variant} {job.targets[0]}" for job, _ in open_jobs]
        self._each(calls, labels)
        return [row for path in paths for row in json.loads(path.read_text(encoding="utf-8"))]

    def _file(self, job: Job) -> Path:
        return self.work / "rows" / f"{job.key()}.json"

    def _each(self, calls: Sequence[Callable[[], None]], labels: Sequence[str]) -> None:
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


def best(
    grids: Mapping[str, Sequence[Method]], rows: Sequence[Mapping[str, Any]]
) -> dict[str, Method]:
    """Of each grid the setting of least mean regret on select pictures; the first of equals."""
    chosen = {}
    for method, grid in grids.items():
        regrets = [
            statistics.mean(
                row["regret"]
                for row in rows
                if row["method"] == method and row["params"] == plan.named(params)
            )
            for params in grid
        ]
        chosen[method] = grid[regrets.index(min(regrets))]
    return chosen


def _start() -> None:
    """One thread a process: two beside each other wait for one another more than they compute."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch

    torch.set_num_threads(1)


@lru_cache(maxsize=1)
def _world(work: Path, data: Path | None, kind: str) -> Any:
    from razor.bench import world

    if kind == "faces":
        assert data is not None
        return world.faces(work, data)
    drawn = {"tuning": DEVELOPMENT, "small": SMALL}.get(kind, COMPARISON)
    return world.reference(work, drawn)


def _work(work: Path, data: Path | None, job: Job, path: Path) -> None:
    from razor.bench.runs import run

    # One world for all suites of one kind: making it costs seconds.
    kind = job.suite if job.suite in ("faces", "tuning") else "small" if job.small else "clip"
    _write(path, run(_world(work, data, kind), job))


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """In one step, so that a stop leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_file = path.with_suffix(f".{os.getpid()}")
    partial_file.write_text(json.dumps(rows) + "\n", encoding="utf-8")
    partial_file.replace(path)
