"""Rows of plain JSON: what a run of any family found, in the form that the documents read."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from api_schemas.reports import Measurement, MetricResult, Report
from api_schemas.requests import Probe
from razor import catalog, seeding
from razor.bench.plan import Job, named
from razor.gradients import parameters_of
from razor.material import Material
from razor.protocols import Study, Workpiece

Row = dict[str, Any]


def head(job: Job, target: str, samples: int) -> Row:
    """What was run."""
    return {
        "suite": job.suite,
        "method": job.method,
        "variant": job.variant,
        "target": target,
        "seed": job.seed,
        "samples": samples,
        "params": named(job.params),
    }


def of_report(report: Report, target: int) -> Row:
    """Everything of a report that concerns one of its targets."""
    phases, computed = report.cost.phase_seconds, report.cost.phase_processor_seconds
    scored = report.method == "razor" and report.seed == 0
    return {
        "metrics": shown([m for m in report.metrics if m.target == target]),
        "robustness": shown([m for m in report.robustness if m.target == target]),
        "scores": [[s.unit, s.score, s.chosen] for s in report.scores if scored],
        "edited": [[item.unit, item.step_ratio] for item in report.edited],
        "weights_changed": report.weights_changed,
        "weights_total": report.weights_total,
        "patch_bytes": report.patch_bytes,
        "seconds": sum(value for phase, value in phases.items() if phase != "probes"),
        "phase_seconds": phases,
        "processor_seconds": sum(n for phase, n in computed.items() if phase != "probes"),
        "forward_passes": report.cost.forward_passes,
        "backward_passes": report.cost.backward_passes,
        "peak_memory_bytes": report.cost.peak_memory_bytes,
        "verdict": report.gate.verdict.value if report.gate else None,
    }


#: What a model costs that nothing edits.
NOTHING: Row = {
    "scores": [],
    "edited": [],
    "weights_changed": 0,
    "weights_total": 0,
    "patch_bytes": 0,
    "seconds": 0.0,
    "phase_seconds": {},
    "processor_seconds": 0.0,
    "forward_passes": 0,
    "backward_passes": 0,
    "peak_memory_bytes": 0,
    "verdict": None,
}


def gold(
    study: Study,
    never: Study,
    material: Material,
    job: Job,
    samples: int,
) -> Row:
    """The measures of a model that never knew the target, in the place of an edited one."""
    with seeding.deterministic(job.seed):
        fit, other = (each.fit(material, job.seed) for each in (study, never))
        before, after = (each.observe(material, job.seed) for each in (study, never))
        metrics = study.compare(material, fit, before, after, job.seed)
        found = [
            result
            for name in job.probes
            for result in study.probes[name].compare(
                material,
                study.probes[name].observe(study.family, fit, material, job.seed),
                # Who makes a model learn again teaches it what the base knew.
                study.probes[name].observe(
                    never.family, fit if name is Probe.RELEARN else other, material, job.seed
                ),
                job.seed,
            )
        ]
    begun = {**head(job, job.targets[0], samples), **NOTHING}
    return {**begun, "metrics": shown(metrics), "robustness": shown(found)}


def tuned(study: Study, material: Material, job: Job, samples: int) -> Row:
    """One setting of a grid on fit and select pictures only; the model is left as it was."""
    assert job.params is not None
    family = study.family
    names = parameters_of(family.units())
    parameters = {n: p for n, p in family.model.named_parameters() if n in set(names)}
    kept = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    start = time.perf_counter()
    with seeding.deterministic(job.seed):
        fit = study.fit(material, job.seed)
        gauge = study.gauge(material, fit, job.seed)
        rng = seeding.generator(job.seed, "method")
        try:
            catalog.method(job.params).edit(Workpiece(family, fit, gauge, rng, quiet))
            regret = gauge.read(whole=True).regret()
        finally:
            with torch.no_grad():
                for name, parameter in parameters.items():
                    parameter.copy_(kept[name])
    seconds = time.perf_counter() - start
    return {**head(job, job.targets[0], samples), "regret": regret, "seconds": seconds}


def shown(metrics: Sequence[MetricResult]) -> dict[str, dict[str, list[float]]]:
    """Metric -> before, after and change."""
    return {metric.id: triple(metric) for metric in metrics}


def triple(metric: MetricResult) -> dict[str, list[float]]:
    """Before, after and change as ``[value, n, low, high]``."""
    return {
        "before": _plain(metric.before),
        "after": _plain(metric.after),
        "change": _plain(metric.change),
    }


def quiet(phase: str, fraction: float, figures: Mapping[str, float]) -> None:
    """Nobody listens."""


def _plain(found: Measurement) -> list[float]:
    return [found.value, found.n, *found.interval]
