"""Runs one job of the plan and turns what it found into rows of plain JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from api_schemas.methods import Razor
from api_schemas.requests import Probe
from api_schemas.shelf import GateThresholds
from razor import seeding, zero_shot
from razor.bench.editing import put, restored
from razor.bench.plan import QUICK, Job
from razor.bench.portraits import SAMPLES
from razor.bench.rows import Row, gold, head, of_report, quiet, triple, tuned
from razor.bench.world import World
from razor.errors import EditDiverged
from razor.families import clip
from razor.families.clip_fit import ClipFit
from razor.gradients import parameters_of
from razor.material import Earlier, Material, Roles, assemble, forgotten_before
from razor.studies.clip import ClipStudy
from razor.unlearn import Run, Task, unlearn

#: The run whose similarities of classes are drawn.
SHOWN = Job("clip", "razor", (QUICK[0],), params=Razor(), probes=())
#: Whose robustness is tried, with the first seed; that of the others is not, to save hours.
TRIED = ("razor", "slug")


def run(world: World, job: Job) -> list[Row]:
    """The rows of one job; the world's model is left as it was."""
    if job.suite == "tuning":
        return [
            tuned(ClipStudy(world.family), world.material(job.targets[0], job.seed), job, SAMPLES)
        ]
    if job.suite == "line":
        return _line(world, job)
    if job.method == "gold":
        return [_gold(world, job)]
    materials = world.materials(job.targets, job.seed)
    _warm(world.family, materials[0], job.seed)
    tried = job.method in TRIED and job.suite in ("clip", "faces") and job.seed == 0
    probes = job.probes if tried else ()
    try:
        found = _unlearn(world.family, materials, job, probes)
    except EditDiverged as error:
        return [{**head(job, target, SAMPLES), "error": str(error)} for target in job.targets]
    rows = [
        {**head(job, target, SAMPLES), **of_report(found.report, number)}
        for number, target in enumerate(job.targets)
    ]
    if replace(job, probes=(), small=False) == SHOWN:
        rows[0]["similarity"] = _similarity(world.family, materials[0], found)
    return rows


def _unlearn(
    family: clip.Clip, materials: Sequence[Material], job: Job, probes: tuple[Probe, ...] = ()
) -> Run:
    assert job.params is not None
    task = Task(
        "bench", 0, job.params, GateThresholds(), job.seed, probes=probes, any_direction=True
    )
    return unlearn(family, materials, task, quiet)


def _warm(family: clip.Clip, material: Material, seed: int) -> None:
    """What a warm worker has ready, for every method alike: the retain gradient.

    Of both towers at once, as most methods ask for it, and of the tower that RAZOR begins with.
    """
    with seeding.deterministic(seed):
        fit = ClipFit(family, material, seed)
        units = family.units()
        fit.retain_gradient(parameters_of(units))
        fit.retain_gradient(parameters_of([unit for unit in units if unit.tower == "text"]))


def _gold(world: World, job: Job) -> Row:
    """The measures of a model that never knew the target, in the place of an edited one."""
    name = job.targets[0]
    material = world.material(name, job.seed, world.mates[name])
    never = clip.load(world.golds[name])
    return gold(ClipStudy(world.family), ClipStudy(never), material, job, SAMPLES)


def _line(world: World, job: Job) -> list[Row]:
    """One request after another on the model that the last one left, as versions of a line are."""
    family, sizing = world.family, world.family.sizing
    rows: list[Row] = []
    earlier: list[Earlier] = []
    with restored(family):
        for number, target in enumerate(job.targets):
            asked = world.asked(target)
            material = assemble(world.shelf, asked, sizing, job.seed, earlier)
            found = _unlearn(family, [material], job)
            report = found.report
            own = {"position": number + 1, "measured_after": number + 1}
            rows.append({**head(job, target, SAMPLES), **of_report(report, 0), **own})
            for result in report.earlier:
                assert result.version is not None
                metrics = {"M1": triple(result.metric)}
                again = {"measured_after": number + 1, "metrics": metrics}
                again |= {"position": result.version}
                rows.append({**head(job, job.targets[result.version - 1], SAMPLES), **again})
            put(family, found.changes)
            past = forgotten_before(world.shelf, asked, sizing, job.seed, number + 1)
            earlier.append(past if report.preflight[0].known else _only_named(past))
    return rows


def _only_named(past: Earlier) -> Earlier:
    """What the model did not know was not forgotten: it is kept out, and not measured again."""
    pictures = past.pictures
    nothing = Roles(pictures.fit[:0], pictures.select[:0], pictures.test[:0])
    return replace(past, pictures=nothing)


def _similarity(family: clip.Clip, material: Material, found: Run) -> dict[str, Any]:
    """Mean cosine of each class's test pictures with each class's text, before and after."""
    labels = material.retain_test.labels[material.domain]

    def matrix() -> list[list[float]]:
        texts = zero_shot.class_embeddings(
            family, material.classes, material.templates[material.domain]
        )
        own = family.embed_images(material.target.test)
        retained = family.embed_images(material.retain_test.pixels)
        rows = [(own @ texts.T).mean(dim=0)]
        for name in material.classes[len(material.names) :]:
            mine = [i for i, label in enumerate(labels) if label == name]
            rows.append((retained[mine] @ texts.T).mean(dim=0))
        return [[round(float(value), 4) for value in row] for row in rows]

    before = matrix()
    with restored(family):
        put(family, found.changes)
        after = matrix()
    return {"classes": list(material.classes), "before": before, "after": after}
