"""SLUG: one weight matrix, one step along one cached gradient.

Source: arXiv 2407.11867. Importance |g_f|/|theta| and alignment |cos(g_f, g_r)| per matrix; of the
Pareto front over layers the most important one that a step can use is edited. The published search
on CLIP has no retain condition, and neither has this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from api_schemas import methods
from razor import scoring
from razor.gradients import mean_gradient, parameters_of, restrict
from razor.protocols import Family, Fit, Gauge, Score, Tick, Trace


@dataclass
class Slug:
    """One run of SLUG with fixed parameters."""

    params: methods.Slug

    def edit(
        self,
        family: Family,
        fit: Fit,
        gauge: Gauge,
        rng: torch.Generator,
        tick: Tick,
        *,
        dry_run: bool = False,
    ) -> Trace:
        """Pick one matrix of the Pareto front and step until the concept is not recognised."""
        tick("score", 0.0, {})
        units = [unit for unit in family.units() if unit.kind == "matrix"]
        names = parameters_of(units)
        weights = dict(family.model.named_parameters())
        forget = mean_gradient(family.model, names, family.forget_loss, [fit.forget_batch(rng)])
        retain = mean_gradient(family.model, names, family.retain_loss, fit.retain_batches())
        scores = scoring.score(units, weights, forget, retain, alpha=0.0, eps=0.0)
        front = pareto(scores)
        if dry_run or not front:
            return Trace(tuple(scores), {item.unit.name: 0 for item in front[:1]})
        chosen = front[0]
        region = chosen.unit.regions[0]
        target = region.of(weights[region.parameter])
        start = target.detach().clone()
        gradient = region.of(forget[region.parameter])
        base = chosen.weight_norm / float(restrict(chosen.unit, forget).norm())
        ratio, low, high = self.params.initial_ratio, 0.0, float("inf")
        best = (gauge.read().accuracy, 0.0)
        for number in range(self.params.search_evaluations):
            tick("edit", number / self.params.search_evaluations, {"accuracy": best[0]})
            with torch.no_grad():
                target.copy_(start + ratio * base * gradient)
            accuracy = gauge.read().accuracy
            best = min(best, (accuracy, ratio))
            if accuracy > 0:
                low = ratio
            else:
                high = ratio
            ratio = 2 * ratio if high == float("inf") else (low + high) / 2
        with torch.no_grad():
            target.copy_(start + best[1] * base * gradient)
        return Trace(tuple(scores), {chosen.unit.name: 0})


def pareto(scores: Sequence[Score]) -> list[Score]:
    """Units that no other beats in both importance and low alignment, most important first."""
    ordered = sorted(scores, key=lambda item: (-item.value, abs(item.cosine), item.unit.name))
    front: list[Score] = []
    for item in ordered:
        if item.value > 0 and (not front or abs(item.cosine) < abs(front[-1].cosine)):
            front.append(item)
    return front
