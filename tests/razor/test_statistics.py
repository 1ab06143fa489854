"""Intervals against independent references."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from razor import statistics


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(
    successes: int, n: int, low: float, high: float
) -> None:
    assert statistics.wilson(successes, n) == pytest.approx((low, high), abs=6e-5)


@given(st.integers(1, 500), st.data())
def test_wilson_ends_solve_the_score_equation(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    p = successes / n
    for end in statistics.wilson(successes, n):
        if 0 < end < 1:
            distance = abs(p - end) / math.sqrt(end * (1 - end) / n)
            assert distance == pytest.approx(statistics.Z95, rel=1e-6)


def test_paired_change_has_no_width_to_hide_behind() -> None:
    """Unchanged answers: the change is 0, and the interval still says how few there are."""
    same = np.array([True] * 9 + [False])
    change = statistics.paired_change(same, same)
    assert change.value == 0
    assert change.interval[0] < 0 < change.interval[1]
    many = np.tile(same, 50)
    wide, narrow = change.interval, statistics.paired_change(many, many).interval
    assert narrow[1] - narrow[0] < wide[1] - wide[0]


def test_paired_change_is_antisymmetric() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.random(80) < 0.9, rng.random(80) < 0.6
    there, back = (
        statistics.paired_change(before, after),
        statistics.paired_change(after, before),
    )
    assert there.value == pytest.approx(-back.value)
    assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]))
    assert there.interval[0] <= there.value <= there.interval[1]


def test_paired_intervals_cover_the_truth() -> None:
    """By simulation: at least 93 % of the 95 % intervals hold the true change."""
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(600):
        before = rng.random(40) < 0.95
        after = before & (rng.random(40) < 0.9)
        low, high = statistics.paired_change(before, after).interval
        inside += low <= 100 * (0.95 * 0.9 - 0.95) <= high
    assert inside / 600 >= 0.93


def test_bootstrap_repeats_and_widens_with_spread() -> None:
    narrow, wide = np.full(20, 3.0), np.linspace(-7, 13, 20)
    assert statistics.bootstrap_mean(wide, 0) == statistics.bootstrap_mean(wide, 0)
    assert statistics.bootstrap_mean(narrow, 0).interval == (3.0, 3.0)
    low, high = statistics.bootstrap_mean(wide, 0).interval
    assert low < 3.0 < high


def test_the_kernel_distance_is_nothing_between_samples_of_one_kind() -> None:
    """And grows with what sets the two kinds apart."""
    rng = np.random.default_rng(0)

    def drawn(shift: float) -> np.ndarray:
        found = rng.normal(size=(200, 8)) + shift
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    same = [statistics.kernel_distance(drawn(1.0), drawn(1.0)) for _ in range(40)]
    assert abs(np.mean(same)) < 2.5 * np.std(same) / np.sqrt(len(same))
    near, far = (statistics.kernel_distance(drawn(1.0), drawn(s)) for s in (0.8, 0.0))
    assert abs(np.mean(same)) < near < far
    assert statistics.kernel_distance(drawn(1.0)[:1], drawn(1.0)) == 0


def test_an_interval_of_halves_holds_the_kernel_distance() -> None:
    """Drawn with repeats it does not: a picture drawn twice counts as two alike."""
    rng = np.random.default_rng(1)
    sides = [rng.normal(size=(60, 8)) + 1 for _ in range(2)]
    first, second = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in sides)
    pair = (first, second)
    measure = statistics.kernel_distance
    found, _, change = statistics.bootstrap_two_samples(measure, pair, pair, 0, halves=True)
    assert found.interval[0] <= found.value <= found.interval[1]
    assert (change.value, change.interval) == (0, (0, 0))
    repeated, _, _ = statistics.bootstrap_two_samples(measure, pair, pair, 0)
    assert repeated.interval[0] > found.interval[0]
