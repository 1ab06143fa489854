"""Quantiles of what was measured, each with its number and its interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
SEED = 7


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with its 95 % interval (percentile bootstrap) and how many measurements it is of."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def quantile(values: Sequence[float], share: float) -> Figure:
    """The quantile of these values."""
    return _figure([values], lambda drawn: float(np.quantile(drawn[0], share)))


def ratio(ours: Sequence[float], bare: Sequence[float], share: float) -> Figure:
    """Our quantile over theirs; both were measured in turn, so a pair is drawn as one."""
    count = min(len(ours), len(bare))

    def of(drawn: list[np.ndarray]) -> float:
        return float(np.quantile(drawn[0], share) / np.quantile(drawn[1], share))

    return _figure([ours[:count], bare[:count]], of)


def _figure(columns: Sequence[Sequence[float]], of: Callable[[list[np.ndarray]], float]) -> Figure:
    arrays = [np.asarray(column) for column in columns]
    rng, n = np.random.default_rng(SEED), len(arrays[0])
    places = rng.integers(0, n, (RESAMPLES, n))
    found = [of([array[place] for array in arrays]) for place in places]
    low, high = np.quantile(found, (0.025, 0.975))
    return Figure(of(arrays), float(low), float(high), n)
