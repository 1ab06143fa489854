"""What a metric is called, what it means, and its figures before and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from api_schemas.reports import Better, Measurement, MetricResult
from razor import statistics


@dataclass(frozen=True)
class Card:
    """A metric without its figures."""

    id: str
    name: str
    definition: str
    better: Better
    unit: str = "percent"

    def proportion(
        self,
        before: np.ndarray,  # (n,) bool
        after: np.ndarray,  # (n,) bool, of the same pictures
    ) -> MetricResult:
        """The share of hits, with Wilson intervals and Newcombe's for the change."""
        return self._result(
            statistics.percentage(before),
            statistics.percentage(after),
            statistics.paired_change(before, after),
        )

    def mean(
        self,
        before: np.ndarray,  # (n,)
        after: np.ndarray,  # (n,), of the same pictures
        seed: int,
    ) -> MetricResult:
        """The mean, with seeded bootstrap intervals."""
        return self._result(
            statistics.bootstrap_mean(before, seed),
            statistics.bootstrap_mean(after, seed),
            statistics.bootstrap_mean(after - before, seed),
        )

    def statistic(
        self,
        measure: Callable[[np.ndarray, np.ndarray], float],
        before: tuple[np.ndarray, np.ndarray],
        after: tuple[np.ndarray, np.ndarray],
        seed: int,
        *,
        halves: bool = False,
    ) -> MetricResult:
        """A statistic of two samples, (n,) and (m,), with seeded intervals of drawing anew."""
        return self._result(
            *statistics.bootstrap_two_samples(measure, before, after, seed, halves=halves),
        )

    def _result(self, before: Measurement, after: Measurement, change: Measurement) -> MetricResult:
        return MetricResult(
            id=self.id,
            name=self.name,
            definition=self.definition,
            unit=self.unit,
            better=self.better,
            before=before,
            after=after,
            change=change,
        )
