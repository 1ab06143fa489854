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

#: Steps that only repair: how many at most, and how much shorter each is than the one before.
REPAIRS, SHORTER = 8, 0.8
#: Steps without a better state after which a round ends.
PATIENCE = 8


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
        pools = run.pools(scores)
        starts = [scoring.choose(p, self.params.tau, self.params.max_units) for p in pools]
        starts = [units for units in starts if units]
        if dry_run or not starts:
            first = starts[0] if starts else []
            return Trace(tuple(scores), {unit.name: 0 for unit in first})
        chosen, reading = run.best_start(starts)
        rounds = {unit.name: 0 for unit in chosen}
        for number in range(1, self.params.rounds + 1):
            if run.forgotten(reading):
                break
            pool = next(p for p in run.pools(run.score()) if _holds(p, chosen[0]))
            grown = scoring.next_best(pool, chosen)
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
    gains: dict[str, float] = field(default_factory=dict)

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

    def pools(self, scores: Sequence[Score]) -> list[list[Score]]:
        """The scores by tower, the tower with the best score first; or all in one."""
        if not self.params.one_tower:
            return [list(scores)]
        towers = dict.fromkeys(score.unit.tower for score in scores)
        return [[score for score in scores if score.unit.tower == tower] for tower in towers]

    def best_start(self, starts: Sequence[list[Unit]]) -> tuple[list[Unit], Reading]:
        """Descends from the first start that forgets, else from the one that came furthest."""
        names = parameters_of(unit for units in starts for unit in units)
        base = self._copy(names)
        found: list[tuple[list[Unit], Reading, dict[str, Tensor]]] = []
        for units in starts:
            self._put(base)
            reading = self.descend(units, 0)
            if self.forgotten(reading):
                return units, reading
            found.append((units, reading, self._copy(names)))
        units, reading, weights = min(found, key=lambda start: self._rank(start[1]))
        self._put(weights)
        return units, reading

    def descend(self, chosen: Sequence[Unit], number: int) -> Reading:
        """Up to ``steps`` small updates of the chosen units; leaves the best state seen.

        The three terms are computed anew for each step. Once the concept is gone but something
        else is harmed, only the retain and mismatch terms go on, with ever smaller steps.
        """
        names = parameters_of(chosen)
        # Measured anew in every round: what a unit can still do depends on what is left to do.
        self.lengths.clear()
        self.gains.clear()
        reading = best = self.gauge.read()
        kept = self._copy(names)
        repairs = stalled = 0
        for step in range(self.params.steps):
            if self.done(reading) or repairs == REPAIRS or stalled == PATIENCE:
                break
            self._report(number, step, reading)
            repairs += self.forgotten(reading)
            directions = self._directions(names, forget=not self.forgotten(reading))
            self._measure_steps(chosen, directions, reading)
            with torch.no_grad():
                for unit in self._worthwhile(chosen):
                    self._move(unit, directions, self.lengths[unit.name] * SHORTER**repairs)
            reading = self.gauge.read()
            stalled += 1
            if self._rank(reading) < self._rank(best):
                best, kept, stalled = reading, self._copy(names), 0
        self._put(kept)
        return best

    def _worthwhile(self, chosen: Sequence[Unit]) -> list[Unit]:
        """The chosen units whose own stable step forgets enough, next to the best of them.

        A score is a first-order promise made on fit pictures; the search has seen on select
        pictures what each unit can do within the retain tolerance.
        """
        best = max(self.gains[unit.name] for unit in chosen)
        return [unit for unit in chosen if self.gains[unit.name] >= self.params.min_gain * best]

    def _rank(self, reading: Reading) -> tuple[float, float]:
        """The most forgotten first, then the least harmed; within the limits all are equal.

        Harm beyond the tolerance does not make a state worse than one that still knows the
        concept: the gate refuses both, and says of the first what it harmed.
        """
        left = max(0.0, reading.remains(self.params.forget_margin))
        return (left, max(0.0, reading.harm - self.params.retain_tolerance))

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
            self.gains[unit.name] = now.remains(p.forget_margin) - found.reading.remains(
                p.forget_margin
            )

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
            retain, mismatch = self.family.kept_losses(batch)
            return retain + p.lambda_mismatch * mismatch

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


def _holds(pool: Sequence[Score], unit: Unit) -> bool:
    return any(score.unit == unit for score in pool)
