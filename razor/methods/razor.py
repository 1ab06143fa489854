"""RAZOR: score layers and heads, edit the few that carry the concept, grow only while needed.

Source: arXiv 2603.14819. What the paper leaves open (how long a step is, when forgetting is
reached, which state is kept) is our choice, marked as such here and in the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from api_schemas import methods
from razor import scoring
from razor.gradients import Gradients, mean_gradient, parameters_of, restrict
from razor.protocols import Batch, Reading, Score, Trace, Unit, Workpiece
from razor.search import Found, largest_stable_step

#: Steps that only repair: how many at most, and how much shorter each is than the one before.
REPAIRS, SHORTER = 8, 0.8
#: Of the running means of gradients and of their squares, as Adam has them.
BETAS = 0.9, 0.999


@dataclass(frozen=True)
class Razor:
    """One run of RAZOR with fixed parameters."""

    params: methods.Razor

    def edit(self, work: Workpiece, *, dry_run: bool = False) -> Trace:
        """Score, select, update, grow; with ``dry_run`` score and select only.

        A tower is scored when it is its turn: where one is enough, no gradient of another is taken.
        """
        run = _Run(self.params, work)
        work.tick("score", 0.0, {})
        starts = (units for units in map(run.choose, run.pools()) if units)
        if dry_run:
            chosen = {unit.name: 0 for unit in next(starts, [])}
            return Trace(tuple(run.scores), chosen)
        chosen = run.best_of(starts)
        return Trace(tuple(run.scores), chosen)


@dataclass
class _Run:
    params: methods.Razor
    work: Workpiece
    scores: list[Score] = field(default_factory=list)  # of the first scoring of each tower
    lengths: dict[str, float] = field(default_factory=dict)
    gains: dict[str, float] = field(default_factory=dict)
    moments: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)  # of this round
    updates: int = 0  # of this round

    def __post_init__(self) -> None:
        self.family, self.fit, self.gauge = self.work.family, self.work.fit, self.work.gauge
        self.weights: dict[str, Tensor] = dict(self.family.model.named_parameters())
        self.budget = self.params.max_share * sum(w.numel() for w in self.weights.values())

    def done(self, reading: Reading) -> bool:
        """Forgotten with the safety margin, within the retain tolerance."""
        return self.forgotten(reading) and reading.harm <= self.params.retain_tolerance

    def forgotten(self, reading: Reading) -> bool:
        return reading.remains(self.params.forget_risk) <= 0

    def score(self, units: Sequence[Unit], *, first: bool = False) -> list[Score]:
        """Every unit's score on the model as it stands; ``first``: before any is edited."""
        if not self.params.heads:
            units = [unit for unit in units if unit.kind != "head"]
        names = parameters_of(units)
        forget = self._forget_gradient(names, scoring=first)
        retain = self.fit.retain_gradient(names)
        p = self.params
        return scoring.score(units, self.weights, forget, retain, p.alpha, p.eps)

    def choose(self, pool: Sequence[Score]) -> list[Unit]:
        """K out of a pool; without selection, every matrix of it as one unit."""
        if self.params.selection:
            return scoring.choose(pool, self.params.tau, self.params.max_units, self.budget)
        return [everything([score.unit for score in pool])]

    def pools(self) -> Iterator[list[Score]]:
        """The scores by tower, in the order of the towers to try; or of all the towers in one."""
        wanted = self.params.towers
        for towers in [{tower} for tower in wanted] if self.params.one_tower else [set(wanted)]:
            units = [unit for unit in self.family.units() if unit.tower in towers]
            if units:
                scores = self.score(units, first=True)
                self.scores += scores
                yield scores

    def best_of(self, starts: Iterable[list[Unit]]) -> dict[str, int]:
        """Edits from the first start that forgets, else from the one that came furthest.

        Returns the units edited, each with the round that added it; none without a start.
        """
        found: list[tuple[dict[str, int], Reading, dict[str, Tensor]]] = []
        for units in starts:
            # Only what this start edits is put back: writing a tower, even with its own values,
            # would make everything that was computed from it be computed again.
            base = self._copy(self._tower_of(units))
            rounds, reading = self.attempt(units)
            if self.forgotten(reading):
                return rounds
            found.append((rounds, reading, self._copy(tuple(base))))
            self._put(base)
        if not found:
            return {}
        rounds, reading, weights = min(found, key=lambda start: self._rank(start[1]))
        self._put(weights)
        return rounds

    def attempt(self, units: Sequence[Unit]) -> tuple[dict[str, int], Reading]:
        """Updates these units, and grows by the best of the rest while that is needed."""
        chosen = list(units)
        rounds = {unit.name: 0 for unit in chosen}
        reading = self.descend(chosen, 0)
        for number in range(1, self.params.rounds + 1):
            if self.forgotten(reading):
                break
            grown = scoring.next_best(self.score(self._rest(units)), chosen, self.budget)
            if grown is None:
                break
            chosen.append(grown)
            rounds[grown.name] = number
            reading = self.descend(chosen, number)
        return rounds, reading

    def _rest(self, units: Sequence[Unit]) -> list[Unit]:
        """Every unit of the towers that these lie in, or of all the towers to edit."""
        towers = {units[0].tower} if self.params.one_tower else set(self.params.towers)
        return [unit for unit in self.family.units() if unit.tower in towers]

    def _tower_of(self, units: Sequence[Unit]) -> tuple[str, ...]:
        return parameters_of(self._rest(units))

    def descend(self, chosen: Sequence[Unit], number: int) -> Reading:
        """Up to ``steps`` small updates of the chosen units; leaves the best state seen.

        The three terms are computed anew for each step. Once the concept is gone but something
        else is harmed, only the retain and mismatch terms go on, with ever smaller steps.
        """
        with self.family.moving(chosen):
            return self._descend(chosen, number)

    def _descend(self, chosen: Sequence[Unit], number: int) -> Reading:
        names = parameters_of(chosen)
        # Measured anew in every round: what a unit can still do depends on what is left to do.
        self.lengths.clear()
        self.gains.clear()
        self.moments.clear()
        self.updates = 0
        reading = best = self._read()
        kept = self._copy(names)
        repairs = stalled = 0
        calm = 1.0
        for step in range(self.params.steps):
            if self.done(reading) or repairs == REPAIRS or stalled == self.params.patience:
                break
            self._report(number, step, reading)
            # Running means carry the forget term on: adaptive steps forget and repair in turns.
            repairs += self.forgotten(reading) and not self.params.adaptive
            directions = self._directions(names, forget=not self.forgotten(reading))
            self._measure_steps(chosen, directions, reading)
            with torch.no_grad():
                for unit in self._worthwhile(chosen):
                    self._move(unit, directions, self.lengths[unit.name] * calm * SHORTER**repairs)
            reading = self._read()
            stalled += 1
            if self._rank(reading) < self._rank(best):
                best, kept, stalled = reading, self._copy(names), 0
            else:
                calm *= self.params.calming
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
        left = max(0.0, reading.remains(self.params.forget_risk))
        if left:
            return (left, 0.0)
        return (0.0, max(0.0, reading.harm - self.params.retain_tolerance))

    def _read(self) -> Reading:
        """The model as it stands; its harm only once the concept is gone, for nothing asks before.

        Reading the harm costs most: retained pictures and questions are many.
        """
        reading = self.gauge.read(harm=False)
        return replace(reading, harm=self.gauge.harm()) if self.forgotten(reading) else reading

    def _report(self, number: int, step: int, reading: Reading) -> None:
        total = self.params.steps * (self.params.rounds + 1)
        share = (number * self.params.steps + step) / total
        harm = {} if math.isnan(reading.harm) else {"harm": reading.harm}
        self.work.tick("edit", share, {"accuracy": reading.accuracy, **harm})

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

            def put(step: float, unit: Unit = unit, before: Mapping[str, Tensor] = before) -> None:
                self._put(before)
                with torch.no_grad():
                    self._move(unit, directions, step)

            with self.family.moving([unit]):
                found = largest_stable_step(
                    put,
                    self.gauge,
                    Found(0.0, now),
                    p.max_step_ratio,
                    p.retain_tolerance,
                    p.search_evaluations,
                    p.forget_risk,
                )
            self._put(before)
            shortest = p.max_step_ratio / 2 ** (p.search_evaluations - 1)
            self.lengths[unit.name] = p.step_share * max(found.step, shortest)
            self.gains[unit.name] = now.remains(p.forget_risk) - found.reading.remains(
                p.forget_risk
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
        pair = self.fit.retain_batch(self.work.rng)

        def keep(batch: Batch) -> Tensor:
            retain, mismatch = self.family.kept_losses(batch)
            return p.lambda_retain * retain + p.lambda_mismatch * mismatch

        kept = mean_gradient(self.family.model, names, keep, [pair])
        if not forget:
            return self._adapted({name: -kept[name] for name in names})
        gone = self._forget_gradient(names)
        return self._adapted(
            {name: p.lambda_forget * p.rho * gone[name] - kept[name] for name in names}
        )

    def _adapted(self, directions: dict[str, Tensor]) -> dict[str, Tensor]:
        """The directions of this round's updates as Adam would take them, if that is asked for."""
        if not self.params.adaptive:
            return directions
        self.updates += 1
        found = {}
        for name, now in directions.items():
            mean, square = self.moments.get(name, (torch.zeros_like(now), torch.zeros_like(now)))
            mean, square = mean.lerp(now, 1 - BETAS[0]), square.lerp(now.square(), 1 - BETAS[1])
            self.moments[name] = mean, square
            size = (square / (1 - BETAS[1] ** self.updates)).sqrt()
            found[name] = mean / (1 - BETAS[0] ** self.updates) / (size + self.params.eps)
        return found

    def _forget_gradient(self, names: Sequence[str], *, scoring: bool = False) -> Gradients:
        by_name = self.params.anchor == "name"
        batch = self.fit.forget_batch(self.work.rng, by_name=by_name, scoring=scoring)
        return mean_gradient(self.family.model, names, self.family.forget_loss, [batch])

    def _copy(self, names: Sequence[str]) -> dict[str, Tensor]:
        return {name: self.weights[name].detach().clone() for name in names}

    @torch.no_grad()
    def _put(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            self.weights[name].copy_(tensor)


def everything(units: Sequence[Unit]) -> Unit:
    """All matrices in one unit: what is edited where nothing is selected."""
    regions = [region for unit in units if unit.kind == "matrix" for region in unit.regions]
    return Unit("all", units[0].tower, 0, "matrix", tuple(regions))
