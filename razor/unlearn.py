"""One run, start to end: a pure function from weights, concept data, method and seed.

The model leaves as it came: snapshot, edit, round, measure, compare, restore. What changed is found
by comparison, so a method cannot declare it wrongly, and job n + 1 on a warm model equals job n + 1
on a fresh one, bit for bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from api_schemas.methods import Method
from api_schemas.reports import (
    Cost,
    DataRoles,
    EarlierResult,
    EditedUnit,
    Estimate,
    MetricResult,
    PictureGrid,
    Preflight,
    Report,
    UnitScore,
)
from api_schemas.requests import PICTURES, Probe
from api_schemas.shelf import GateThresholds
from razor import catalog, cost, gate, preflight, rehearsal, room, seeding
from razor.errors import EditDiverged
from razor.material import Material
from razor.memory import Passes
from razor.patching import Snapshot
from razor.protocols import Family, Fit, Gauge, Score, Seen, Study, Tick, Trace, Workpiece
from razor.serialize import Located


@dataclass(frozen=True)
class Task:
    """What one run is asked to do."""

    model: str
    version: int
    method: Method
    thresholds: GateThresholds
    seed: int
    dry_run: bool = False
    probes: tuple[Probe, ...] = ()
    pictures: int = PICTURES  # that a generator paints of a target, for measuring
    any_direction: bool = False  # report also an edit that brought a target nearer to its name


@dataclass(frozen=True)
class Run:
    """What one run found. ``changes`` is empty where nothing was edited."""

    report: Report
    changes: tuple[Located, ...]


def unlearn(
    family: Family,
    materials: Sequence[Material],
    task: Task,
    tick: Tick,
    between: Callable[[], None] | None = None,
) -> Run:
    """Edit for each target in turn, measure all, judge; the model is left as it was, always.

    Later targets are edited on top of earlier ones, which must stay forgotten meanwhile. Targets
    that the model does not know are left alone. A dry run edits nothing and estimates the cost.
    ``between`` is called between any two batches that the model sees; like ``tick`` it may raise
    Cancelled. Raises EditDiverged too.
    """
    return studied(catalog.study(family, task.pictures), materials, task, tick, between)


def studied(
    study: Study,
    materials: Sequence[Material],
    task: Task,
    tick: Tick,
    between: Callable[[], None] | None = None,
) -> Run:
    """``unlearn`` with a study at hand, of the model as loaded."""
    cost.reset_peak_memory()
    clock = cost.Clock()
    family = study.family
    family.passes = Passes(between) if between is not None else Passes()
    room.of(family.model).forget()
    snapshot = Snapshot(family.model, family.units(), family.dtypes())
    try:
        with seeding.deterministic(task.seed):
            return _run(study, materials, task, tick, snapshot, clock)
    finally:
        snapshot.restore()
        family.passes = Passes()  # nobody is to be told of what comes later


@dataclass
class _Subject:
    """One target on its way through a run: everything of the frozen model is seen first."""

    number: int
    material: Material
    known: Preflight
    fit: Fit | None  # neither where the model does not know the target
    gauge: Gauge | None
    before: Seen
    attacked: list[Seen]
    trace: Trace = field(default_factory=lambda: Trace((), {}))


def _run(
    study: Study,
    materials: Sequence[Material],
    task: Task,
    tick: Tick,
    snapshot: Snapshot,
    clock: cost.Clock,
) -> Run:
    family = study.family
    with clock.phase("preflight"):
        tick("preflight", 0.0, {})
        found = [study.inspect(m, number) for number, m in enumerate(materials)]
    with clock.phase("probes"):
        # Before anything of the frozen model is held: attacks write into the weights and put them
        # back, and what was computed from weights that were written since counts as stale.
        attacked = [
            _attack(study, study.fit(m, task.seed), m, task) if each.known and task.probes else []
            for m, each in zip(materials, found, strict=True)
        ]
    with clock.phase("preflight"):
        materials = [_without_unknown(m, found) for m in materials]
        subjects = [
            _look(study, m, each, seen, task)
            for m, each, seen in zip(materials, found, attacked, strict=True)
        ]
        known = [subject for subject in subjects if subject.gauge is not None]
        earlier = _observe_earlier(study, materials[0], task) if known else []
    scoring = rehearsal.since(clock, family.passes)
    with clock.phase("edit"):
        for place, subject in enumerate(known):
            rng = seeding.generator(task.seed, "method")
            method = catalog.method(task.method)
            assert subject.fit is not None
            assert subject.gauge is not None
            told = _one_of(tick, place, len(known))
            work = Workpiece(family, subject.fit, subject.gauge, rng, told)
            subject.trace = method.edit(work, dry_run=task.dry_run)
    scoring = rehearsal.since(clock, family.passes) + scoring.times(-1)
    with clock.phase("evaluate"):
        tick("evaluate", 0.0, {})
        snapshot.round_to_checkpoint()
        changes = snapshot.changes()
        measured = [_measure(study, subject, task) for subject in known]
        metrics = [metric for found, _ in measured for metric in found]
        pictures = tuple(grid for _, grids in measured for grid in grids)
        if changes and not task.any_direction and study.went_wrong(metrics):
            raise EditDiverged("the edit brought the target nearer to its name; try others")
        now = _observe_earlier(study, materials[0], task) if known else []
        again = _compare_earlier(study, materials[0], earlier, now)
        judged = bool(known) and not task.dry_run
        every = [*metrics, *(each.metric for each in again)]
        verdict = gate.judge(every, task.thresholds) if judged else None
    with clock.phase("probes"):
        robustness = [result for subject in known for result in _attacks(study, subject, task)]
    estimate = None
    if task.dry_run and known:
        # The edit scores too: without what scoring took, nothing is counted twice.
        spent = rehearsal.since(clock, family.passes) + scoring.times(-1)
        with clock.phase("rehearsal"):
            estimate = _estimate(study, known, task, snapshot, tick, spent)
    edited = _edited(family, snapshot, known) if changes else []
    located = tuple(Located(change, *family.place(change.parameter)) for change in changes)
    report = Report(
        model=task.model,
        model_version=task.version,
        method=task.method.method,
        seed=task.seed,
        roles=_roles(materials),
        preflight=[subject.known for subject in subjects],
        metrics=metrics,
        robustness=robustness,
        earlier=again,
        gate=verdict,
        scores=[_score_view(score, s) for s in known for score in s.trace.scores],
        edited=edited,
        weights_changed=sum(change.changed for change in changes),
        weights_total=sum(p.numel() for p in family.model.parameters()),
        patch_bytes=sum(len(part) for change in changes for part in change.parts),
        pictures=pictures,
        estimate=estimate,
        warnings=_warnings(subjects, edited, study),
        cost=Cost(
            wall_seconds=clock.total(),
            phase_seconds=clock.phases,
            forward_passes=family.passes.forward,
            backward_passes=family.passes.backward,
            peak_memory_bytes=cost.peak_memory_bytes(),
            phase_processor_seconds=clock.computed,
        ),
    )
    return Run(report, located)


def _without_unknown(material: Material, found: Sequence[Preflight]) -> Material:
    """What the model never knew is not edited, so it need not stay forgotten."""
    earlier = (e for e in material.earlier if e.version is not None or found[e.target].known)
    return replace(material, earlier=tuple(earlier))


def _look(
    study: Study, material: Material, known: Preflight, attacked: list[Seen], task: Task
) -> _Subject:
    fit, gauge, before = None, None, None
    if known.known:
        fit = study.fit(material, task.seed)
        gauge = study.gauge(material, fit, task.seed)
        before = study.observe(material, task.seed)
    return _Subject(known.target, material, known, fit, gauge, before, attacked)


def _measure(
    study: Study, subject: _Subject, task: Task
) -> tuple[list[MetricResult], list[PictureGrid]]:
    """The metrics of a known target on the model as it stands, and pictures to look at."""
    after = study.observe(subject.material, task.seed)
    found = study.compare(subject.material, subject.fit, subject.before, after, task.seed)
    grids = study.pictures(subject.number, subject.before, after)
    return [result.model_copy(update={"target": subject.number}) for result in found], grids


def _attack(study: Study, fit: Fit, material: Material, task: Task) -> list[Seen]:
    """What every attack finds on the model as it stands; nothing in a dry run."""
    probes = [] if task.dry_run else [study.probes[p] for p in task.probes if p in study.probes]
    return [probe.observe(study.family, fit, material, task.seed) for probe in probes]


def _attacks(study: Study, subject: _Subject, task: Task) -> list[MetricResult]:
    """The figures of every attack on a known target."""
    assert subject.fit is not None
    after = _attack(study, subject.fit, subject.material, task)
    probes = [study.probes[p] for p in task.probes if p in study.probes]
    found = [
        result
        for probe, b, a in zip(probes, subject.attacked, after, strict=bool(after))
        for result in probe.compare(subject.material, b, a, task.seed)
    ]
    return [result.model_copy(update={"target": subject.number}) for result in found]


def _estimate(
    study: Study,
    known: Sequence[_Subject],
    task: Task,
    snapshot: Snapshot,
    tick: Tick,
    spent: rehearsal.Spent,
) -> Estimate:
    """What an edit would touch and cost, beside what everything else took (``spent``)."""
    family = study.family
    edits = [(s.fit, s.gauge) for s in known if s.fit is not None and s.gauge is not None]
    rehearsed = rehearsal.rehearse(family, edits, task.method, task.seed, snapshot, tick)
    chosen = {name for subject in known for name in subject.trace.chosen}
    units = {unit.name: unit.size() for unit in family.units() if unit.name in chosen}
    probes = [probe for probe in task.probes if probe in study.probes]
    return rehearsal.estimate(spent, rehearsed, units, probes)


def _observe_earlier(study: Study, material: Material, task: Task) -> list[np.ndarray]:
    return [study.observe_earlier(material, each, task.seed) for each in material.earlier]


def _compare_earlier(
    study: Study, material: Material, before: Sequence[np.ndarray], after: Sequence[np.ndarray]
) -> list[EarlierResult]:
    """Targets of earlier versions; those of this request are measured as targets anyway."""
    results = []
    for each, b, a in zip(material.earlier, before, after, strict=bool(before)):
        metric = study.compare_earlier(b, a).model_copy(update={"target": each.target})
        results.append(EarlierResult(version=each.version, metric=metric))
    return results


def _roles(materials: Sequence[Material]) -> DataRoles:
    """The pictures of all targets together; the retain set is that of the first."""
    first = materials[0].roles
    if len(materials) == 1:
        return first
    digests = sorted(material.roles.target_digest for material in materials)
    return first.model_copy(
        update={
            **{
                role: sum(getattr(material.roles, role) for material in materials)
                for role in ("target_fit", "target_select", "target_test")
            },
            "target_digest": hashlib.sha256("\n".join(digests).encode()).hexdigest(),
        }
    )


def _one_of(tick: Tick, place: int, several: int) -> Tick:
    """Tells of one target's edit as its part of the edits of all."""

    def told(phase: str, fraction: float, figures: Mapping[str, float]) -> None:
        if phase == "edit":
            tick("edit", (place + fraction) / several, figures)
        elif place == 0:
            tick(phase, fraction, figures)
        else:  # scoring a later target: the run as a whole has been editing for long
            tick("edit", place / several, figures)

    return told


def _edited(family: Family, snapshot: Snapshot, known: Sequence[_Subject]) -> list[EditedUnit]:
    """The chosen units that moved, and every other matrix that did.

    A method may choose what is no unit of the family's: several matrices at once.
    """
    names = {name for subject in known for name in subject.trace.chosen}
    ratios = {unit: snapshot.step_ratio(unit) for unit in family.units()}
    moved = [unit for unit, ratio in ratios.items() if ratio > 0]
    chosen = [unit for unit in moved if unit.name in names]
    found = [
        unit
        for unit in moved
        if unit.name in names
        or (unit.kind == "matrix" and not any(unit.overlaps(other) for other in chosen))
    ]
    return [EditedUnit(unit=unit.name, step_ratio=ratios[unit]) for unit in found]


def _warnings(
    subjects: Sequence[_Subject], edited: Sequence[EditedUnit], study: Study
) -> list[str]:
    """What the figures do not show."""
    found = [warning for subject in subjects for warning in preflight.warnings(subject.known)]
    towers = {unit.name: unit.tower for unit in study.family.units()}
    found += study.warnings({towers[item.unit] for item in edited})
    return list(dict.fromkeys(found))


def _score_view(score: Score, subject: _Subject) -> UnitScore:
    return UnitScore(
        target=subject.number,
        unit=score.unit.name,
        score=score.value,
        forget_norm=score.forget_norm,
        weight_norm=score.weight_norm,
        cosine=score.cosine,
        chosen=subject.trace.chosen.get(score.unit.name),
    )
