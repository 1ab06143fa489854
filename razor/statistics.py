"""Intervals. Every figure that leaves the project carries one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from api_schemas.reports import Measurement

Z95 = 1.959963984540054


def wilson(successes: float, n: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson 1927), as fractions; (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    return low, 1.0 if successes == n else min(1.0, centre + half)


def percentage(hits: Sequence[bool] | np.ndarray) -> Measurement:
    """The share of hits in percent, with its Wilson interval."""
    array = np.asarray(hits, dtype=bool)
    successes, n = int(array.sum()), int(array.size)
    low, high = wilson(successes, n)
    return Measurement(
        value=100 * successes / n if n else 0.0, n=n, interval=(100 * low, 100 * high)
    )


def paired_change(before: np.ndarray, after: np.ndarray) -> Measurement:
    """After minus before in points, for the same pictures judged twice.

    Interval: Newcombe's method 10 for paired proportions (Statistics in Medicine 17, 1998), which
    builds on Wilson's and so stays honest for few pictures and for proportions of 0 and 1.
    """
    x, y = np.asarray(after, dtype=bool), np.asarray(before, dtype=bool)
    n = int(x.size)
    if n == 0:
        return Measurement(value=0.0, n=0, interval=(-100.0, 100.0))
    p, q = float(x.mean()), float(y.mean())
    (low_p, high_p), (low_q, high_q) = wilson(x.sum(), n), wilson(y.sum(), n)
    both, only_x = int((x & y).sum()), int((x & ~y).sum())
    only_y, neither = int((~x & y).sum()), int((~x & ~y).sum())
    spread = math.sqrt((both + only_x) * (only_y + neither) * (both + only_y) * (only_x + neither))
    phi = (both * neither - only_x * only_y) / spread if spread else 0.0

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))

    low = p - q - reach(p - low_p, high_q - q)
    high = p - q + reach(high_p - p, q - low_q)
    return Measurement(
        value=100 * (p - q), n=n, interval=(100 * max(-1.0, low), 100 * min(1.0, high))
    )


def bootstrap_mean(values: np.ndarray, seed: int, resamples: int = 2000) -> Measurement:
    """The mean with its 95 % percentile bootstrap interval; seeded, so it repeats."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        return Measurement(value=0.0, n=0, interval=(0.0, 0.0))
    rng = np.random.default_rng(seed)
    means = array[rng.integers(0, array.size, (resamples, array.size))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Measurement(
        value=float(array.mean()), n=int(array.size), interval=(float(low), float(high))
    )


def bootstrap_two_samples(
    measure: Callable[[np.ndarray, np.ndarray], float],
    before: tuple[np.ndarray, np.ndarray],  # (n,) and (m,)
    after: tuple[np.ndarray, np.ndarray],  # (n,) and (m,), of the same pictures
    seed: int,
    resamples: int = 500,
    *,
    halves: bool = False,
) -> tuple[Measurement, Measurement, Measurement]:
    """A statistic of two samples before, after, and its change, with 95 % percentile intervals.

    Each sample is drawn anew by itself; before and after see the same draws. With ``halves`` half
    of each sample is drawn without repeats: for a statistic that takes a repeated value for a
    second one. Such intervals are those of half the pictures, so rather too wide.
    """
    n, m = len(before[0]), len(before[1])
    if n == 0 or m == 0:
        nothing = Measurement(value=0.0, n=0, interval=(0.0, 0.0))
        return nothing, nothing, nothing
    rng = np.random.default_rng(seed)
    drawn = np.empty((resamples, 2))
    for row in drawn:
        if halves:
            left, right = rng.permutation(n)[: -(-n // 2)], rng.permutation(m)[: -(-m // 2)]
        else:
            left, right = rng.integers(0, n, n), rng.integers(0, m, m)
        row[:] = [measure(side[0][left], side[1][right]) for side in (before, after)]
    found = measure(*before), measure(*after)

    def figure(value: float, values: np.ndarray) -> Measurement:
        low, high = np.quantile(values, (0.025, 0.975))
        return Measurement(value=value, n=n + m, interval=(float(low), float(high)))

    return (
        figure(found[0], drawn[:, 0]),
        figure(found[1], drawn[:, 1]),
        figure(found[1] - found[0], drawn[:, 1] - drawn[:, 0]),
    )


def auc(
    first: np.ndarray,  # (n,)
    second: np.ndarray,  # (m,)
) -> float:
    """The chance that one of ``first`` is larger than one of ``second``; ties count a half."""
    order = np.sort(second)
    below = np.searchsorted(order, first, "left")
    not_above = np.searchsorted(order, first, "right")
    return float((below + not_above).mean() / (2 * len(second)))


def kernel_distance(
    first: np.ndarray,  # (n, d), unit length
    second: np.ndarray,  # (m, d), unit length
) -> float:
    """1000 x the unbiased squared maximum mean discrepancy, kernel (x . y + 1)^3.

    Source: arXiv 1801.01401, equation 4, with features of unit length. 0 on average for two samples
    of one distribution, so it may fall below.
    """
    n, m = len(first), len(second)
    if n < 2 or m < 2:
        return 0.0
    within, beside = (first @ first.T + 1) ** 3, (second @ second.T + 1) ** 3
    across = (first @ second.T + 1) ** 3
    own = (within.sum() - within.trace()) / (n * (n - 1))
    other = (beside.sum() - beside.trace()) / (m * (m - 1))
    return float(1000 * (own + other - 2 * across.mean()))
