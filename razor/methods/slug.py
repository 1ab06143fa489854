"""SLUG: one weight matrix, one step along one cached gradient.

Source: arXiv 2407.11867. Published: importance |g_f|/|theta| and alignment |cos(g_f, g_r)| of every
matrix, their Pareto front, one unit of it, one gradient, the step searched from a tenth of
|theta|/|g_f| by doubling and then bisection, ten evaluations, the lowest forget accuracy preferred.
The published search on CLIP has no retain condition; nor has this one by default.

Ours: the gradient is the mean over several draws of augmented pictures; accuracy is that on fit and
select pictures; of steps of equal accuracy the shortest is kept; several units of the front may be
tried, and the one of least regret wins; with ``retain_aware`` regret decides between steps too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from api_schemas import methods
from razor import scoring
from razor.gradients import parameters_of, restrict
from razor.methods.training import figures, forget_gradient
from razor.protocols import Reading, Score, Trace, Unit, Workpiece

#: Matrices of a layer that are edited together where units are grouped.
GROUPS = {"qkv": ("q", "k", "v"), "mlp": ("up", "down")}


@dataclass(frozen=True)
class Tried:
    """A step, in units of |theta|/|g_f|, and what the gauge read there."""

    ratio: float
    reading: Reading


@dataclass(frozen=True)
class Slug:
    """One run of SLUG with fixed parameters."""

    params: methods.Slug

    def edit(self, work: Workpiece, *, dry_run: bool = False) -> Trace:
        """Edit the one matrix whose best step is best; with ``dry_run`` name the first tried."""
        family, fit, gauge, tick = work.family, work.fit, work.gauge, work.tick
        tick("score", 0.0, {})
        p = self.params
        units = [u for u in family.units() if u.kind == "matrix" and u.tower in p.towers]
        if p.grouped:
            units = together(units)
        names = parameters_of(units)
        weights = dict(family.model.named_parameters())
        forget = forget_gradient(family, fit, names, work.rng)
        retain = fit.retain_gradient(names)
        scores = scoring.score(units, weights, forget, retain, alpha=0.0, eps=0.0)
        front = pareto(scores)
        if p.deepest:
            front.sort(key=lambda item: -item.unit.layer)
        front = front[: p.layers]
        if dry_run or not front:
            return Trace(tuple(scores), {item.unit.name: 0 for item in front[:1]})
        start = Tried(0.0, gauge.read(whole=True))
        found: list[tuple[_Line, Tried]] = []
        for number, item in enumerate(front):
            line = _Line(item.unit, weights, forget)

            def read_at(ratio: float, number: int = number, line: _Line = line) -> Reading:
                line.put(ratio)
                reading = gauge.read(whole=True)
                tick("edit", number / len(front), figures(reading))
                return reading

            with family.moving([item.unit]):
                tried = search(read_at, p.initial_ratio, p.search_evaluations)
            line.put(0.0)
            found.append((line, min([start, *tried], key=self._rank)))
        line, best = min(found, key=lambda each: each[1].reading.regret())
        line.put(best.ratio)
        return Trace(tuple(scores), {line.unit.name: 0})

    def _rank(self, tried: Tried) -> tuple[float, float]:
        reading = tried.reading
        fault = reading.regret() if self.params.retain_aware else reading.accuracy
        return (fault, tried.ratio)


class _Line:
    """The states that one unit takes along its cached gradient."""

    def __init__(
        self, unit: Unit, weights: Mapping[str, Tensor], gradient: Mapping[str, Tensor]
    ) -> None:
        self.unit = unit
        length = float(restrict(unit, weights).norm()) / float(restrict(unit, gradient).norm())
        self._parts = [
            (values, values.detach().clone(), length * region.of(gradient[region.parameter]))
            for region in unit.regions
            for values in [region.of(weights[region.parameter])]
        ]

    @torch.no_grad()
    def put(self, ratio: float) -> None:
        """Writes the state at this step; at 0 every bit is as it was."""
        for values, start, change in self._parts:
            values.copy_(start + ratio * change if ratio else start)


def search(
    read_at: Callable[[float], Reading], initial_ratio: float, evaluations: int
) -> list[Tried]:
    """Every step tried: doubled until nothing is recognised, then halved between that and before.

    Source: arXiv 2407.11867.
    """
    tried: list[Tried] = []
    ratio, low, high = initial_ratio, 0.0, math.inf
    for _ in range(evaluations):
        tried.append(Tried(ratio, read_at(ratio)))
        if tried[-1].reading.accuracy > 0:
            low = ratio
        else:
            high = ratio
        ratio = 2 * ratio if math.isinf(high) else (low + high) / 2
    return tried


def together(units: Sequence[Unit]) -> list[Unit]:
    """Query, key and value of each attention as one unit, and each pair of feed-forward matrices.

    Other matrices are left out, as in the published edit of picture generators.
    """
    groups: dict[tuple[str, str], list[Unit]] = {}
    for unit in units:
        place, _, part = unit.name.rpartition(".")
        for name, parts in GROUPS.items():
            if part in parts:
                groups.setdefault((place, name), []).append(unit)
    return [
        Unit(
            f"{place}.{name}",
            members[0].tower,
            members[0].layer,
            "matrix",
            tuple(region for unit in members for region in unit.regions),
        )
        for (place, name), members in groups.items()
    ]


def pareto(scores: Sequence[Score]) -> list[Score]:
    """Units that no other beats in both importance and low alignment, most important first."""
    ordered = sorted(scores, key=lambda item: (-item.value, abs(item.cosine), item.unit.name))
    front: list[Score] = []
    for item in ordered:
        if item.value > 0 and (not front or abs(item.cosine) < abs(front[-1].cosine)):
            front.append(item)
    return front
