"""One run, start to end: a pure function from weights, concept data, method and seed.

The model leaves as it came: snapshot, edit, round, measure, compare, restore. What changed is found
by comparison, so a method cannot declare it wrongly, and job n + 1 on a warm model equals job n + 1
on a fresh one, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass

from api_schemas.methods import Method
from api_schemas.reports import Cost, EditedUnit, Gate, MetricResult, Report, UnitScore
from api_schemas.shelf import GateThresholds
from razor import catalog, cost, gate, preflight, seeding
from razor.errors import EditDiverged
from razor.families.clip import Clip, Passes
from razor.families.clip_run import ClipFit, ClipGauge
from razor.families.network import tensors_on_disk
from razor.material import Material
from razor.patching import Change, Snapshot
from razor.probes import zero_shot
from razor.protocols import Score, Tick, Trace
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


@dataclass(frozen=True)
class Run:
    """What one run found. ``changes`` is empty where nothing was edited."""

    report: Report
    changes: tuple[Located, ...]


def unlearn(family: Clip, material: Material, task: Task, tick: Tick) -> Run:
    """Edit, measure, judge; the model is left as it was, also when this raises.

    Raises Cancelled (from ``tick``), EditDiverged.
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
            return _run(family, material, task, tick, snapshot, clock)
    finally:
        snapshot.restore()


def _run(
    family: Clip,
    material: Material,
    task: Task,
    tick: Tick,
    snapshot: Snapshot,
    clock: cost.Clock,
) -> Run:
    with clock.phase("preflight"):
        tick("preflight", 0.0, {})
        known = preflight.inspect(family, material)
        before = zero_shot.observe(family, material)
        fit = ClipFit(family, material, task.seed)
    trace, changes = Trace((), {}), []
    metrics: list[MetricResult] = []
    verdict: Gate | None = None
    if known.known:
        with clock.phase("edit"):
            gauge = ClipGauge(family, material, fit.neighbours, task.seed)
            rng = seeding.generator(task.seed, "method")
            method = catalog.method(task.method)
            trace = method.edit(family, fit, gauge, rng, tick, dry_run=task.dry_run)
        with clock.phase("evaluate"):
            tick("evaluate", 0.0, {})
            snapshot.round_to_checkpoint()
            after = zero_shot.observe(family, material)
            metrics = zero_shot.compare(material, before, after, fit.neighbours, task.seed)
            changes = snapshot.changes()
            _check_direction(metrics, changes)
            verdict = None if task.dry_run else gate.judge(metrics, task.thresholds)
    edited = _edited(family, snapshot, trace) if changes else []
    located = tuple(_located(family, change) for change in changes)
    report = Report(
        model=task.model,
        model_version=task.version,
        method=task.method.method,
        seed=task.seed,
        roles=material.roles,
        preflight=known,
        metrics=metrics,
        gate=verdict,
        scores=[_score_view(score, trace) for score in trace.scores],
        edited=edited,
        weights_changed=sum(change.changed for change in changes),
        weights_total=sum(p.numel() for p in family.model.parameters()),
        patch_bytes=sum(len(part) for change in changes for part in change.parts),
        warnings=[*preflight.warnings(known), *_limits(edited, family)],
        cost=Cost(
            wall_seconds=clock.total(),
            phase_seconds=clock.phases,
            forward_passes=family.passes.forward,
            backward_passes=family.passes.backward,
            peak_memory_bytes=cost.peak_memory_bytes(),
        ),
    )
    return Run(report, located)


def _check_direction(metrics: list[MetricResult], changes: list[Change]) -> None:
    """An edit that moved the target's pictures nearer to its name went the wrong way."""
    similarity = next(metric for metric in metrics if metric.id == "M2")
    if changes and similarity.change.value > 0:
        raise EditDiverged("the edit brought the target nearer to its name; try other parameters")


def _located(family: Clip, change: Change) -> Located:
    tensor = family.checkpoint_name(change.parameter)
    return Located(change, tensors_on_disk(family.folder)[tensor][0], tensor)


def _edited(family: Clip, snapshot: Snapshot, trace: Trace) -> list[EditedUnit]:
    """The chosen units that moved; a chosen unit may have been left alone."""
    chosen = [unit for unit in family.units() if unit.name in trace.chosen]
    moved = [(unit, snapshot.step_ratio(unit)) for unit in chosen]
    return [EditedUnit(unit=unit.name, step_ratio=ratio) for unit, ratio in moved if ratio > 0]


def _limits(edited: list[EditedUnit], family: Clip) -> list[str]:
    """What the figures do not show."""
    towers = {unit.name: unit.tower for unit in family.units()}
    if edited and all(towers[item.unit] == "text" for item in edited):
        return [TEXT_ONLY]
    return []


def _score_view(score: Score, trace: Trace) -> UnitScore:
    return UnitScore(
        unit=score.unit.name,
        score=score.value,
        forget_norm=score.forget_norm,
        weight_norm=score.weight_norm,
        cosine=score.cosine,
        chosen=trace.chosen.get(score.unit.name),
    )
