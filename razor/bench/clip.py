"""The CLIP benchmark: plans, runs what is not there yet on several processes, writes the document.

Every finished job is one file in the work folder, so a stopped benchmark goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from api_schemas.methods import Slug
from api_schemas.requests import Probe
from razor.bench import plan
from razor.bench.landed import take_over
from razor.bench.plan import COMPARISON, DEVELOPMENT, SMALL, Drawings, Job
from razor.bench.pool import Pool, Progress, write

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
        probes = tuple(probe for probe in plan.ATTACKS if probe is not Probe.RELEARN)
        return self._run([replace(job, probes=probes, small=True) for job in jobs])

    def full(self) -> list[dict[str, Any]]:
        """Everything: grids, all targets, seeds, ablations, several targets, faces."""
        # Imported here: the grids are the methods' side of the benchmark.
        from razor.methods.grids import GRIDS

        people = plan.people()
        self._prepare(DEVELOPMENT, COMPARISON)
        golds = plan.golds(people)
        take_over(self.earlier, self._pool, [*plan.tuning(TUNED_ON, GRIDS), *golds])
        self._train(golds)
        tuned = self._run(plan.tuning(TUNED_ON, GRIDS))
        rivals = plan.best(GRIDS, tuned)
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

    def _train(self, golds: Sequence[Job]) -> None:
        """The gold models of rows still to be run, and those on faces; what is there stays."""
        from razor.bench import world

        asked = {job.targets[0] for job in golds if not self._pool.file(job).exists()}
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
        self._pool.each(trainings, ["training"] * len(trainings))

    def _run(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        return self._pool.rows(jobs, partial(_work, self.work, self.data))

    @property
    def _pool(self) -> Pool:
        return Pool(self.work, self.processes, self.progress)


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
    write(path, run(_world(work, data, kind), job))
