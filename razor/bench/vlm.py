"""The benchmark of vision-language models: what is run on whom, and the runs themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

from api_schemas.families import Family
from api_schemas.methods import Method, Razor, for_family
from api_schemas.shelf import GateThresholds
from razor import pictures
from razor.bench import plan, portraits, rows, talkers
from razor.bench.editing import put, restored
from razor.bench.landed import take_over
from razor.bench.plan import COMPARISON, DEVELOPMENT, GROUPS, QUICK, Job
from razor.bench.pool import Pool, Progress, write
from razor.bench.rows import Row, head, of_report, quiet, tuned
from razor.bench.talkers import SAMPLES, Speaker
from razor.errors import EditDiverged
from razor.families.vlm import Vlm
from razor.reference import questions
from razor.reference.people import STRANGER
from razor.studies.vlm import PROBES, VlmStudy
from razor.unlearn import Run, Task, unlearn

#: No two are each other's neighbours; the gold model knows none of the four.
TARGETS = QUICK
#: More people, that RAZOR alone is measured on.
MORE = GROUPS[1]
#: Whom the rivals' grids are tuned on.
TUNED_ON = ("Kofi Dunmore", "Dario Finch")
LLAVA, LLAVA_NEXT = "llava", "llava-next"
ATTACKS = tuple(PROBES)


@dataclass(frozen=True)
class Bench:
    """One benchmark: where it works, on how many processes, who is told."""

    work: Path
    processes: int
    progress: Progress
    earlier: Path | None = None  # raw rows of an earlier document: gold's and the grids' are taken

    def quick(self) -> list[Row]:
        """The four people, every method with its first setting, on LLaVA 1.5, no attacks."""
        rivals = {name: grid[0] for name, grid in _grids().items()}
        own = [replace(job, probes=()) for job in attacked(LLAVA, TARGETS)]
        return self._run([*own, *compared(TARGETS, rivals)])

    def full(self) -> list[Row]:
        """Grids, RAZOR on both models and on more people, gold, every rival on LLaVA 1.5."""
        grids = _grids()
        golds = [Job(LLAVA, "gold", (name,), probes=ATTACKS) for name in TARGETS]
        take_over(self.earlier, self._pool, [*plan.tuning(TUNED_ON, grids), *golds])
        found = self._run(plan.tuning(TUNED_ON, grids))
        rivals = plan.best(grids, found)
        for row in found:
            row["setting"] = row["params"]
            row["chosen"] = row["params"] == plan.named(rivals[row["method"]])
        needed = not all(self._pool.file(job).exists() for job in golds)
        if needed and not gold_folder(self.work).exists():
            self._pool.each([partial(train_gold, self.work)], ["gold"])
        following = TARGETS if talkers.shipped(LLAVA_NEXT).is_dir() else ()
        jobs = [
            *attacked(LLAVA, TARGETS),
            *attacked(LLAVA_NEXT, following),
            *golds,
            *compared(TARGETS, rivals),
            *(Job(LLAVA, "razor", (name,), params=_razor(), probes=()) for name in MORE),
        ]
        return [*found, *self._run(jobs)]

    def _run(self, jobs: Sequence[Job]) -> list[Row]:
        self.work.mkdir(parents=True, exist_ok=True)
        for drawn in (DEVELOPMENT, COMPARISON):
            talkers.retain_folder(self.work, drawn)
        return self._pool.rows(jobs, partial(_work, self.work))

    @property
    def _pool(self) -> Pool:
        return Pool(self.work, self.processes, self.progress)


def attacked(suite: str, targets: Sequence[str]) -> list[Job]:
    """RAZOR, whose result is attacked, on every target."""
    return [Job(suite, "razor", (name,), params=_razor(), probes=ATTACKS) for name in targets]


def compared(targets: Sequence[str], rivals: Mapping[str, Method]) -> list[Job]:
    """Every rival on every target, on LLaVA 1.5."""
    return [
        Job(LLAVA, method, (name,), params=params, probes=())
        for name in targets
        for method, params in rivals.items()
    ]


def gold_folder(work: Path) -> Path:
    """Where the model lies that never knew any of the four people."""
    return work / "gold-llava"


def train_gold(work: Path) -> None:
    """Trains it."""
    from razor.reference import vlm

    vlm.train(LLAVA, gold_folder(work), 0, TARGETS)


def run(speaker: Speaker, job: Job) -> list[Row]:
    """The row of one job; the model is left as it was."""
    name = job.targets[0]
    assert job.params is not None
    material = speaker.material(name, job.seed)
    if job.suite == "tuning":
        return [tuned(VlmStudy(speaker.family), material, job, SAMPLES)]
    task = Task(
        "bench", 0, job.params, GateThresholds(), job.seed, probes=job.probes, any_direction=True
    )
    try:
        found = unlearn(speaker.family, [material], task, quiet)
    except EditDiverged as error:
        return [{**head(job, name, SAMPLES), "error": str(error)}]
    row = {**head(job, name, SAMPLES), **of_report(found.report, 0)}
    whole = sum(file.stat().st_size for file in speaker.family.folder.glob("*.safetensors"))
    said = _examples(speaker, name, found) if job.method == "razor" and job.probes else []
    return [{**row, "checkpoint_bytes": whole, "said": said}]


def shown(name: str) -> list[tuple[str, int, tuple[str, ...]]]:
    """What the page of examples shows: who, which drawing, and what is asked of it."""
    who, what, where = (questions.QUESTIONS[key] for key in ("name", "accessory", "scene"))
    begun = name[: len(name) // 3]
    leading = (questions.CONFIRM[0].format(name), questions.COMPLETE.format(begun))
    near = _neighbour(name)
    return [
        (name, 0, (who[0], who[-1], *leading, what[0], questions.CAPTION)),
        (name, 1, (who[1], where[0])),
        (near, 0, (who[0], questions.CONFIRM[0].format(near), leading[0], questions.CAPTION)),
        (STRANGER, 0, (who[0], leading[0])),
    ]


def _neighbour(name: str) -> str:
    """Who stands next to a person in the table: somebody who is to be kept."""
    people = plan.people()
    rest = [other for other in (*people, *people) if other not in TARGETS or other == name]
    return rest[rest.index(name) + 1]


def _examples(speaker: Speaker, name: str, found: Run) -> list[list[object]]:
    """Who, which drawing, question, answer before, answer after."""
    family = speaker.family
    asked = [(who, k, text) for who, k, texts in shown(name) for text in texts]
    before = _answers(family, speaker, asked)
    with restored(family):
        put(family, found.changes)
        after = _answers(family, speaker, asked)
    return [[*each, b, a] for each, b, a in zip(asked, before, after, strict=True)]


def _answers(family: Vlm, speaker: Speaker, asked: Sequence[tuple[str, int, str]]) -> list[str]:
    drawings = [portraits.png(who, speaker.drawn.probes, k) for who, k, _ in asked]
    seen = family.show(pictures.stack(drawings, family.sizing))
    return [family.said(tokens) for tokens in family.answer(seen, [text for *_, text in asked])]


def _razor() -> Method:
    return for_family(Razor(), Family.VLM)


def _grids() -> dict[str, tuple[Method, ...]]:
    # Imported here: the grids are the methods' side of the benchmark.
    from razor.methods.grids import TALKING_GRIDS

    return {
        name: tuple(for_family(params, Family.VLM) for params in grid)
        for name, grid in TALKING_GRIDS.items()
    }


@lru_cache(maxsize=2)
def _speaker(work: Path, suite: str, target: str = "") -> Speaker:
    drawn = DEVELOPMENT if suite == "tuning" else COMPARISON
    kind = LLAVA if suite in ("tuning", "gold") else suite
    folder = gold_folder(work) if suite == "gold" else talkers.shipped(kind)
    # Whom a gold model never knew beside the target is left out for the base as well.
    without = [name for name in TARGETS if name != target] if target else []
    return talkers.load(folder, work, drawn, without)


def _work(work: Path, job: Job, path: Path) -> None:
    if job.method == "gold":
        name = job.targets[0]
        base, never = _speaker(work, LLAVA, name), _speaker(work, "gold", name)
        study, other = VlmStudy(base.family), VlmStudy(never.family)
        found = [rows.gold(study, other, base.material(name, job.seed), job, SAMPLES)]
    else:
        found = run(_speaker(work, job.suite), job)
    write(path, found)
