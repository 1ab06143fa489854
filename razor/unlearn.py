"""One run, start to end: a pure function from weights, concept data, method and seed.

The model leaves as it came: snapshot, edit, round, measure, compare, restore. What changed is found
by comparison, so a method cannot declare it wrongly, and job n + 1 on a warm model equals job n + 1
on a fresh one, bit for bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from api_schemas.methods import Method
from api_schemas.reports import (
    Cost,
    DataRoles,
    EarlierResult,
    EditedUnit,
    MetricResult,
    Preflight,
    Report,
    UnitScore,
)
from api_schemas.requests import Probe
from api_schemas.shelf import GateThresholds
from razor import catalog, cost, gate, preflight, seeding
from razor.errors import EditDiverged
from razor.families.clip import Clip, Passes
from razor.families.clip_fit import ClipFit
from razor.families.clip_gauge import ClipGauge
from razor.families.network import tensors_on_disk
from razor.material import Material
from razor.patching import Change, Snapshot
from razor.probes import zero_shot
from razor.protocols import Score, Seen, Tick, Trace, Workpiece
from razor.serialize import Located

TEXT_ONLY = (
    "Only the text tower was edited: the name no longer finds the target's pictures, but the "
    "features of its pictures are as before, so a search by picture can still find them."
)


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
    any_direction: bool = False  # report also an edit that brought a target nearer to its name


@dataclass(frozen=True)
class Run:
    """What one run found. ``changes`` is empty where nothing was edited."""

    report: Report
    changes: tuple[Located, ...]


def unlearn(family: Clip, materials: Sequence[Material], task: Task, tick: Tick) -> Run:
    """Edit for each target in turn, measure all, judge; the model is left as it was, always.

    Later targets are edited on top of earlier ones, which must stay forgotten meanwhile. Targets
    that the model does not know are left alone. Raises Cancelled (from ``tick``), EditDiverged.
    """
    cost.reset_peak_memory()
    clock = cost.Clock()
    family.passes = Passes()
    units = family.units()
    on_disk = tensors_on_disk(family.folder)
    names = {region.parameter for unit in units for region in unit.regions}
    dtypes = {name: on_disk[family.checkpoint_name(name)][1].dtype for name in names}
    snapshot = Snapshot(family.model, units, dtypes)
    try:
        with seeding.deterministic(task.seed):
            return _run(family, materials, task, tick, snapshot, clock)
    finally:
        snapshot.restore()


@dataclass
class _Subject:
    """One target on its way through a run: everything of the frozen model is seen first."""

    number: int
    material: Material
    known: Preflight
    fit: ClipFit
    gauge: ClipGauge | None  # None where the model does not know the target
    before: zero_shot.Observation | None
    attacked: list[Seen]
    trace: Trace = field(default_factory=lambda: Trace((), {}))


def _run(
    family: Clip,
    materials: Sequence[Material],
    task: Task,
    tick: Tick,
    snapshot: Snapshot,
    clock: cost.Clock,
) -> Run:
    with clock.phase("preflight"):
        tick("preflight", 0.0, {})
        found = [preflight.inspect(family, m, number) for number, m in enumerate(materials)]
    with clock.phase("probes"):
        # Before anything of the frozen model is held: attacks write into the weights and put them
        # back, and what was computed from weights that were written since counts as stale.
        attacked = [
            _attack(family, ClipFit(family, m, task.seed), m, task) if each.known else []
            for m, each in zip(materials, found, strict=True)
        ]
    with clock.phase("preflight"):
        materials = [_without_unknown(m, found) for m in materials]
        subjects = [
            _look(family, m, each, seen, task)
            for m, each, seen in zip(materials, found, attacked, strict=True)
        ]
        known = [subject for subject in subjects if subject.gauge is not None]
        earlier = _observe_earlier(family, materials[0]) if known else []
    with clock.phase("edit"):
        for place, subject in enumerate(known):
            rng = seeding.generator(task.seed, "method")
            method = catalog.method(task.method)
            assert subject.gauge is not None
            told = _one_of(tick, place, len(known))
            work = Workpiece(family, subject.fit, subject.gauge, rng, told)
            subject.trace = method.edit(work, dry_run=task.dry_run)
    with clock.phase("evaluate"):
        tick("evaluate", 0.0, {})
        snapshot.round_to_checkpoint()
        changes = snapshot.changes()
        metrics = [metric for subject in known for metric in _measure(family, subject, task)]
        if changes and not task.any_direction:
            _check_direction(metrics)
        again = _compare_earlier(materials[0], earlier, _observe_earlier(family, materials[0]))
        judged = bool(known) and not task.dry_run
        every = [*metrics, *(each.metric for each in again)]
        verdict = gate.judge(every, task.thresholds) if judged else None
    with clock.phase("probes"):
        robustness = [result for subject in known for result in _attacks(family, subject, task)]
    edited = _edited(family, snapshot, known) if changes else []
    located = tuple(_located(family, change) for change in changes)
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
        warnings=_warnings(subjects, edited, family),
        cost=Cost(
            wall_seconds=clock.total(),
            phase_seconds=clock.phases,
            forward_passes=family.passes.forward,
            backward_passes=family.passes.backward,
            peak_memory_bytes=cost.peak_memory_bytes(),
        ),
    )
    return Run(report, located)


def _without_unknown(material: Material, found: Sequence[Preflight]) -> Material:
    """What the model never knew is not edited, so it need not stay forgotten."""
    earlier = (e for e in material.earlier if e.version is not None or found[e.target].known)
    return replace(material, earlier=tuple(earlier))


def _look(
    family: Clip, material: Material, known: Preflight, attacked: list[Seen], task: Task
) -> _Subject:
    fit = ClipFit(family, material, task.seed)
    gauge, before = None, None
    if known.known:
        gauge = ClipGauge(family, material, fit.neighbours, task.seed)
        before = zero_shot.observe(family, material)
    return _Subject(known.target, material, known, fit, gauge, before, attacked)


def _measure(family: Clip, subject: _Subject, task: Task) -> list[MetricResult]:
    """The metrics of a known target on the model as it stands."""
    assert subject.before is not None
    after = zero_shot.observe(family, subject.material)
    near = subject.fit.neighbours
    found = zero_shot.compare(subject.material, subject.before, after, near, task.seed)
    return [result.model_copy(update={"target": subject.number}) for result in found]


def _attack(family: Clip, fit: ClipFit, material: Material, task: Task) -> list[Seen]:
    """What every attack finds on the model as it stands; nothing in a dry run."""
    probes = () if task.dry_run else task.probes
    return [catalog.PROBES[p].observe(family, fit, material, task.seed) for p in probes]


def _attacks(family: Clip, subject: _Subject, task: Task) -> list[MetricResult]:
    """The figures of every attack on a known target."""
    after = _attack(family, subject.fit, subject.material, task)
    found = [
        result
        for probe, b, a in zip(task.probes, subject.attacked, after, strict=bool(after))
        for result in catalog.PROBES[probe].compare(subject.material, b, a, task.seed)
    ]
    return [result.model_copy(update={"target": subject.number}) for result in found]


def _observe_earlier(family: Clip, material: Material) -> list[np.ndarray]:
    return [zero_shot.observe_earlier(family, material, each) for each in material.earlier]


def _compare_earlier(
    material: Material, before: Sequence[np.ndarray], after: Sequence[np.ndarray]
) -> list[EarlierResult]:
    """Targets of earlier versions; those of this request are measured as targets anyway."""
    results = []
    for each, b, a in zip(material.earlier, before, after, strict=bool(before)):
        metric = zero_shot.M1_EARLIER.proportion(b, a)
        results.append(
            EarlierResult(
                version=each.version, metric=metric.model_copy(update={"target": each.target})
            )
        )
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


def _check_direction(metrics: Sequence[MetricResult]) -> None:
    """An edit that moved a target's pictures nearer to its name went the wrong way."""
    if any(metric.id == "M2" and metric.change.value > 0 for metric in metrics):
        raise EditDiverged("the edit brought the target nearer to its name; try other parameters")


def _located(family: Clip, change: Change) -> Located:
    tensor = family.checkpoint_name(change.parameter)
    return Located(change, tensors_on_disk(family.folder)[tensor][0], tensor)


def _edited(family: Clip, snapshot: Snapshot, known: Sequence[_Subject]) -> list[EditedUnit]:
    """The chosen units that moved; a chosen unit may have been left alone."""
    names = {name for subject in known for name in subject.trace.chosen}
    chosen = [unit for unit in family.units() if unit.name in names]
    moved = [(unit, snapshot.step_ratio(unit)) for unit in chosen]
    return [EditedUnit(unit=unit.name, step_ratio=ratio) for unit, ratio in moved if ratio > 0]


def _warnings(
    subjects: Sequence[_Subject], edited: Sequence[EditedUnit], family: Clip
) -> list[str]:
    """What the figures do not show."""
    found = [warning for subject in subjects for warning in preflight.warnings(subject.known)]
    towers = {unit.name: unit.tower for unit in family.units()}
    if edited and all(towers[item.unit] == "text" for item in edited):
        found.append(TEXT_ONLY)
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
