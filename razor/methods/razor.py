"""RAZOR: score layers and heads, edit the few that carry the concept, grow only while needed.

Source: arXiv 2603.14819. What the paper leaves open (how long a step is, when forgetting is
reached, which state is kept) is our choice, marked as such here and in the parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from api_schemas import methods
from razor import scoring
from razor.gradients import Gradients, mean_gradient, parameters_of, restrict
from razor.protocols import Batch, Family, Fit, Gauge, Reading, Score, Tick, Trace, Unit
from razor.search import Found, largest_stable_step

#: Each step that repairs is this much shorter than the one before, so that repairing settles.
REPAIR = 0.8


@dataclass(frozen=True)
class Razor:
    """One run of RAZOR with fixed parameters."""

    params: methods.Razor

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
        """Score, select, update, grow; with ``dry_run`` score and select only."""
        run = _Run(self.params, family, fit, gauge, rng, tick)
        tick("score", 0.0, {})
        scores = run.score()
        chosen = scoring.choose(scores, self.params.tau, self.params.max_units)
        rounds = {unit.name: 0 for unit in chosen}
        if dry_run or not chosen:
            return Trace(tuple(scores), rounds)
        reading = run.descend(chosen, 0)
        for number in range(1, self.params.rounds + 1):
            if run.done(reading):
                break
            grown = scoring.next_best(run.score(), chosen)
            if grown is None:
                break
            chosen.append(grown)
            rounds[grown.name] = number
            reading = run.descend(chosen, number)
        return Trace(tuple(scores), rounds)


@dataclass
class _Run:
    params: methods.Razor
    family: Family
    fit: Fit
    gauge: Gauge
    rng: torch.Generator
    tick: Tick
    lengths: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.weights: dict[str, Tensor] = dict(self.family.model.named_parameters())

    def done(self, reading: Reading) -> bool:
        """Forgotten with the safety margin, within the retain tolerance."""
        return self.forgotten(reading) and reading.harm <= self.params.retain_tolerance

    def forgotten(self, reading: Reading) -> bool:
        return reading.remains(self.params.forget_margin) <= 0

    def score(self) -> list[Score]:
        """Every unit's score on the model as it stands."""
        units = self.family.units()
        if not self.params.heads:
            units = [unit for unit in units if unit.kind != "head"]
        names = parameters_of(units)
        forget = self._forget_gradient(names)
        retain = mean_gradient(
            self.family.model, names, self.family.retain_loss, self.fit.retain_batches()
        )
        p = self.params
        return scoring.score(units, self.weights, forget, retain, p.alpha, p.eps)

    def descend(self, chosen: Sequence[Unit], number: int) -> Reading:
        """Up to ``steps`` small updates of the chosen units; leaves the best state seen.

        The three terms are computed anew for each step. Once the concept is gone but something
        else is harmed, only the retain and mismatch terms go on, with ever smaller steps.
        """
        names = parameters_of(chosen)
        reading = best = self.gauge.read()
        kept = self._copy(names)
        repairs = 0
        for step in range(self.params.steps):
            if self.done(reading):
                break
            self._report(number, step, reading)
            repairs += self.forgotten(reading)
            directions = self._directions(names, forget=not self.forgotten(reading))
            self._measure_steps(chosen, directions, reading)
            with torch.no_grad():
                for unit in chosen:
                    self._move(unit, directions, self.lengths[unit.name] * REPAIR**repairs)
            reading = self.gauge.read()
            if self._rank(reading) < self._rank(best):
                best, kept = reading, self._copy(names)
        self._put(kept)
        return best

    def _rank(self, reading: Reading) -> tuple[bool, float, float]:
        """Harmless before harmful, then the most forgotten, then the least harmed."""
        left = max(0.0, reading.remains(self.params.forget_margin))
        return (reading.harm > self.params.retain_tolerance, left, reading.harm)

    def _report(self, number: int, step: int, reading: Reading) -> None:
        total = self.params.steps * (self.params.rounds + 1)
        share = (number * self.params.steps + step) / total
        self.tick("edit", share, {"accuracy": reading.accuracy, "harm": reading.harm})

    def _measure_steps(
        self, chosen: Sequence[Unit], directions: Mapping[str, Tensor], now: Reading
    ) -> None:
        """Finds eta for units that have none yet: a share of the largest stable step, each alone.

        Where even the shortest step tried does harm, that one is taken: the retain and mismatch
        terms of the steps that follow then decide.
        """
        p = self.params
        for unit in chosen:
            if unit.name in self.lengths:
                continue
            before = self._copy(parameters_of([unit]))

            def read_at(
                step: float, unit: Unit = unit, before: Mapping[str, Tensor] = before
            ) -> Reading:
                self._put(before)
                with torch.no_grad():
                    self._move(unit, directions, step)
                return self.gauge.read()

            found = largest_stable_step(
                read_at,
                Found(0.0, now),
                p.max_step_ratio,
                p.retain_tolerance,
                p.search_evaluations,
                p.forget_margin,
            )
            self._put(before)
            shortest = p.max_step_ratio / 2 ** (p.search_evaluations - 1)
            self.lengths[unit.name] = p.step_share * max(found.step, shortest)

    def _move(self, unit: Unit, directions: Mapping[str, Tensor], ratio: float) -> None:
        """Moves a unit along its direction, by ``ratio`` times the length of its weights."""
        length = float(restrict(unit, directions).norm())
        if not length:
            return
        scale = ratio * float(restrict(unit, self.weights).norm()) / length
        for region in unit.regions:
            change = region.of(directions[region.parameter])
            region.of(self.weights[region.parameter]).add_(change, alpha=scale)

    def _directions(self, names: Sequence[str], *, forget: bool) -> dict[str, Tensor]:
        """-( -lambda_f * rho * g_f + g_r + lambda_m * g_m ), each term on weights as they stand."""
        p = self.params
        pair = self.fit.retain_batch(self.rng)

        def keep(batch: Batch) -> Tensor:
            return self.family.retain_loss(batch) + p.lambda_mismatch * self.family.mismatch_loss(
                batch
            )

        kept = mean_gradient(self.family.model, names, keep, [pair])
        if not forget:
            return {name: -kept[name] for name in names}
        gone = self._forget_gradient(names)
        return {name: p.lambda_forget * p.rho * gone[name] - kept[name] for name in names}

    def _forget_gradient(self, names: Sequence[str]) -> Gradients:
        batch = self.fit.forget_batch(self.rng)
        return mean_gradient(self.family.model, names, self.family.forget_loss, [batch])

    def _copy(self, names: Sequence[str]) -> dict[str, Tensor]:
        return {name: self.weights[name].detach().clone() for name in names}

    @torch.no_grad()
    def _put(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            self.weights[name].copy_(tensor)
