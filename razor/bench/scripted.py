"""A run of fixed length: the gauge is read for real, and answers from a script.

With random weights nothing is ever recognised, so no method would have anything to do. Readings
cost here what they always cost; what they say is what a typical run on the reference model hears.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch

from api_schemas.reports import Preflight
from razor.material import Material
from razor.protocols import Family, Gauge, Reading, Study

#: Steps of each search that harm too much, of ``search_evaluations``.
TOO_FAR: Final = 2


@dataclass(frozen=True)
class Pace:
    """How long a run is."""

    forgotten_after: int  # updates until the concept is gone
    repaired_after: int  # updates that only repair after
    #: A state that has forgotten is looked at whole, as a gauge does that spares it before then.
    looks: bool

    @property
    def updates(self) -> int:
        """All of them."""
        return self.forgotten_after + self.repaired_after


@dataclass
class Script:
    """Reads what it is asked to read, and says what stands in the script."""

    gauge: Gauge
    evaluations: int
    pace: Pace
    updates: int = -1  # the state that the round began with is read first
    tried: int = 0  # evaluations of the search under way
    asked: bool = False  # the harm of a step that is being tried

    def read(self, *, whole: bool = False, harm: bool = True) -> Reading:
        """As the gauge reads; then what comes next."""
        if not self.asked:
            last = self.updates + 1 >= self.pace.forgotten_after
            whole = whole or (self.pace.looks and last)
        seen = self.gauge.read(whole=whole, harm=harm)
        if self.asked:  # of a step that did not harm: it has forgotten a little
            self.asked = False
            return self._left(seen, 0.4, 0.0)
        self.updates += 1
        self.tried = 0
        share = 1 - self.updates / self.pace.forgotten_after
        return self._left(seen, share if share > 0 else share - 0.01, 0.0)

    def harm(self) -> float:
        """Of a step that is tried, or of a state that has forgotten."""
        self.gauge.harm()
        if self.updates >= self.pace.forgotten_after and not self.tried:
            repairs = self.updates - self.pace.forgotten_after
            return 1.0 - 0.01 * repairs if repairs < self.pace.repaired_after else 0.0
        self.tried = self.tried % self.evaluations + 1
        self.asked = self.tried > TOO_FAR
        return 0.0 if self.asked else 1.0

    def _left(self, seen: Reading, remains: float, harm: float) -> Reading:
        stand_ins = torch.full_like(seen.stand_ins, remains)
        return Reading(remains, stand_ins, float(remains > 0), harm)


@dataclass
class Forced:
    """A study of a model that is said to know the target, with scripted gauges."""

    study: Study
    evaluations: int  # of a step search
    pace: Pace | None  # None: the gauge answers as it finds

    @property
    def family(self) -> Family:
        """The model."""
        return self.study.family

    def __getattr__(self, name: str) -> Any:
        return getattr(self.study, name)

    def inspect(self, material: Material, target: int) -> Preflight:
        """Looked into as ever; known whatever comes of it."""
        return self.study.inspect(material, target).model_copy(update={"known": True})

    def gauge(self, material: Material, fit: Any, seed: int) -> Gauge:
        """The study's own, scripted for a method whose steps depend on what it reads."""
        found = self.study.gauge(material, fit, seed)
        return Script(found, self.evaluations, self.pace) if self.pace else found
