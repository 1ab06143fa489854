"""The benchmark of picture generators: what is run on which targets, and the runs themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

from api_schemas.families import Family
from api_schemas.methods import Method, Razor, for_family
from api_schemas.requests import PICTURES
from api_schemas.shelf import GateThresholds
from razor.bench import painters, plan, rows
from razor.bench.painters import SAMPLES, Painter
from razor.bench.plan import COMPARISON, DEVELOPMENT, Job
from razor.bench.pool import Pool, Progress, write
from razor.bench.rows import Row, head, of_report, quiet, tuned
from razor.errors import EditDiverged
from razor.studies.diffusion import PROBES, DiffusionStudy
from razor.unlearn import Task, unlearn

#: A person, an object, a style; the gold pipeline knows none of the three.
TARGETS = ("Mara Venn", "a teapot", "poster")
#: More of each kind, that RAZOR is measured on.
MORE = ("Oskar Brill", "a bicycle", "pencil")
#: What the rivals' grids are tuned on.
TUNED_ON = ("Zora Plum", "a guitar", "watercolour")
UNET, MMDIT = "diffusion", "diffusion3"
ATTACKS = tuple(PROBES)


@dataclass(frozen=True)
class Bench:
    """One benchmark: where it works, on how many processes, who is told; or nothing is run."""

    work: Path
    processes: int
    progress: Progress
    idle: bool = False

    def ended(self) -> bool:
        """Whether every grid has been run: without them nobody knows which rivals to compare."""
        return all(self._pool.file(job).exists() for job in plan.tuning(TUNED_ON, _grids()))

    def quick(self) -> list[Row]:
        """The three targets, every method with its first setting, on the U-Net alone."""
        rivals = {name: grid[0] for name, grid in _grids().items()}
        own = [replace(job, probes=()) for job in attacked(TARGETS)]
        return self._run([*own, *compared(TARGETS, rivals)])

    def full(self) -> list[Row]:
        """Grids, RAZOR on both pipelines and on more targets, gold, every rival on the U-Net."""
        grids = _grids()
        found = self._run(plan.tuning(TUNED_ON, grids))
        rivals = plan.best(grids, found)
        for row in found:
            row["setting"] = row["params"]
            row["chosen"] = row["params"] == plan.named(rivals[row["method"]])
        if not (gold_folder(self.work).exists() or self.idle):
            self._pool.each([partial(train_gold, self.work)], ["gold"])
        mmdit = TARGETS if painters.shipped(MMDIT).is_dir() else ()
        jobs = [
            *attacked(TARGETS),
            *(Job(MMDIT, "razor", (name,), params=_razor(), probes=()) for name in mmdit),
            *(Job(UNET, "gold", (name,), probes=ATTACKS) for name in TARGETS),
            *compared(TARGETS, rivals),
            *(Job(UNET, "razor", (name,), params=_razor(), probes=()) for name in MORE),
        ]
        return [*found, *self._run(jobs)]

    def _run(self, jobs: Sequence[Job]) -> list[Row]:
        self.work.mkdir(parents=True, exist_ok=True)
        for drawn in (DEVELOPMENT, COMPARISON):
            painters.retain_folder(self.work, drawn)
        return self._pool.rows(jobs, partial(_work, self.work))

    @property
    def _pool(self) -> Pool:
        return Pool(self.work, self.processes, self.progress, self.idle)


def attacked(targets: Sequence[str]) -> list[Job]:
    """RAZOR, whose result is attacked, on every target, on the U-Net."""
    return [Job(UNET, "razor", (name,), params=_razor(), probes=ATTACKS) for name in targets]


def compared(targets: Sequence[str], rivals: Mapping[str, Method]) -> list[Job]:
    """Every rival on every target, on the U-Net."""
    return [
        Job(UNET, method, (name,), params=params, probes=())
        for name in targets
        for method, params in rivals.items()
    ]


def gold_folder(work: Path) -> Path:
    """Where the pipeline lies that never knew any of the three targets."""
    return work / "gold-diffusion"


def train_gold(work: Path) -> None:
    """Trains it, with the shipped autoencoder and judge."""
    from razor.reference import generator

    parts = painters.shipped(UNET)
    generator.train(UNET, gold_folder(work), 0, TARGETS, parts)


def run(painter: Painter, job: Job) -> list[Row]:
    """The row of one job; the pipeline is left as it was."""
    name = job.targets[0]
    assert job.params is not None
    material = painter.material(name, job.seed)
    if job.suite == "tuning":
        return [tuned(DiffusionStudy(painter.family, PICTURES), material, job, SAMPLES)]
    task = Task("bench", 0, job.params, GateThresholds(), job.seed, False, job.probes, PICTURES)
    begun = {**head(job, name, SAMPLES), "kind": painters.kind_of(name).value}
    try:
        report = unlearn(
            painter.family, [material], replace(task, any_direction=True), quiet
        ).report
    except EditDiverged as error:
        return [{**begun, "error": str(error)}]
    grid = report.pictures[0].png if report.pictures else ""
    whole = sum(f.stat().st_size for f in painter.family.folder.rglob("*") if f.is_file())
    return [{**begun, **of_report(report, 0), "grid": grid, "checkpoint_bytes": whole}]


def gold(base: Painter, never: Painter, job: Job) -> list[Row]:
    """The measures of the pipeline that never knew the target, in the place of an edited one."""
    name = job.targets[0]
    study, other = DiffusionStudy(base.family, PICTURES), DiffusionStudy(never.family, PICTURES)
    row = rows.gold(study, other, base.material(name, job.seed), job, SAMPLES)
    return [{**row, "kind": painters.kind_of(name).value}]


def _razor() -> Method:
    return for_family(Razor(), Family.DIFFUSION)


def _grids() -> dict[str, tuple[Method, ...]]:
    # Imported here: the grids are the methods' side of the benchmark.
    from razor.methods.grids import PAINTED_GRIDS

    return {
        name: tuple(for_family(params, Family.DIFFUSION) for params in grid)
        for name, grid in PAINTED_GRIDS.items()
    }


@lru_cache(maxsize=2)
def _painter(work: Path, suite: str, target: str = "") -> Painter:
    drawn = DEVELOPMENT if suite == "tuning" else COMPARISON
    kind = UNET if suite in ("tuning", "gold") else suite
    folder = gold_folder(work) if suite == "gold" else painters.shipped(kind)
    # What a gold pipeline never knew beside the target is left out for the base as well.
    without = [name for name in TARGETS if name != target] if target else []
    return painters.load(folder, painters.shipped(UNET), work, drawn, without)


def _work(work: Path, job: Job, path: Path) -> None:
    if job.method == "gold":
        name = job.targets[0]
        found = gold(_painter(work, UNET, name), _painter(work, "gold", name), job)
    else:
        found = run(_painter(work, job.suite), job)
    write(path, found)
