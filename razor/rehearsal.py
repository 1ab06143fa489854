"""What an edit would cost: one step of it is made, measured and undone.

Nothing here is a table of speeds: the figures come from this model, these pictures and this
machine, in the run that reports them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from api_schemas.methods import Method
from api_schemas.reports import Estimate
from razor import catalog, cost, seeding
from razor.memory import Passes
from razor.patching import Snapshot
from razor.protocols import Family, Fit, Gauge, Tick, Workpiece

WHOLE = "The whole edit, made, measured and undone in this very run."
PART = (
    "{share:.0%} of the steps that the method may take, made, measured and undone in this very "
    "run. The least is an edit that ends there; the most takes every step at that pace."
)


@dataclass(frozen=True)
class Spent:
    """What something took."""

    seconds: float = 0.0
    forward: float = 0.0
    backward: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.seconds + other.seconds,
            self.forward + other.forward,
            self.backward + other.backward,
        )

    def times(self, factor: float) -> Spent:
        """The same so many times."""
        return Spent(self.seconds * factor, self.forward * factor, self.backward * factor)


def since(clock: cost.Clock, passes: Passes) -> Spent:
    """What the run took since it began."""
    return Spent(clock.total(), passes.forward, passes.backward)


class _Enough(Exception):
    """The edit has shown its pace."""


@dataclass
class _Watch:
    """A tick that stops the edit once one step of it is over."""

    passes: Passes
    tick: Tick
    start: float = field(default_factory=time.perf_counter)
    first: float | None = None  # the fraction at which the steps began
    begun: Spent = Spent()
    step: Spent = Spent()
    share: float = 1.0

    def __post_init__(self) -> None:
        self.before = (self.passes.forward, self.passes.backward)

    def spent(self) -> Spent:
        """Since this watch was made."""
        forward, backward = self.before
        return Spent(
            time.perf_counter() - self.start,
            self.passes.forward - forward,
            self.passes.backward - backward,
        )

    def __call__(self, phase: str, fraction: float, figures: Mapping[str, float]) -> None:
        """Raises ``_Enough`` after the first step, and whatever the caller's tick raises."""
        self.tick("evaluate", 1.0, figures)
        if phase != "edit":
            return
        if self.first is None:
            self.first, self.begun = fraction, self.spent()
        elif fraction > self.first:
            self.step = self.spent() + self.begun.times(-1)
            self.share = fraction - self.first
            raise _Enough


def rehearse(
    family: Family,
    edits: Sequence[tuple[Fit, Gauge]],
    method: Method,
    seed: int,
    snapshot: Snapshot,
    tick: Tick,
) -> tuple[Spent, Spent, float]:
    """The least and the most that the edits of all targets take, and the smallest share measured.

    The model is left as it was found. A share of 1 says that every edit came to its end. Raises
    what ``tick`` raises, and EditDiverged as the edit itself would.
    """
    least, most, share = Spent(), Spent(), 1.0
    for fit, gauge in edits:
        watch = _Watch(family.passes, tick)
        work = Workpiece(family, fit, gauge, seeding.generator(seed, "method"), watch)
        try:
            catalog.method(method).edit(work)
        except _Enough:
            whole = watch.begun + watch.step.times(1 / watch.share)
        else:
            watch.share = 1.0
            whole = watch.spent()
        finally:
            snapshot.restore()
        least += watch.spent()
        most += whole
        share = min(share, watch.share)
    return least, most, share


def estimate(
    base: Spent,
    rehearsed: tuple[Spent, Spent, float],
    units: Mapping[str, int],
    probes: Sequence[str],
) -> Estimate:
    """What the run would take in all: ``base`` is what everything but the edit took here.

    ``units`` are those that would be edited, with the number of weights in each.
    """
    least, most, share = base + rehearsed[0], base + rehearsed[1], rehearsed[2]
    return Estimate(
        units=list(units),
        weights=sum(units.values()),
        seconds=(least.seconds, most.seconds),
        forward_passes=(round(least.forward), round(most.forward)),
        backward_passes=(round(least.backward), round(most.backward)),
        peak_memory_bytes=cost.peak_memory_bytes(),
        based_on=WHOLE if share >= 1 else PART.format(share=share),
        leaves_out=[*probes],
    )
