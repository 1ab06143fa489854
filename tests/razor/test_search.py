"""The step search honours its retain condition, whatever the model answers."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from razor.protocols import Reading
from razor.search import Found, largest_stable_step

TOLERANCE = 0.02


def reading(margin: float, harm: float) -> Reading:
    return Reading(worst=margin, stand_ins=torch.empty(0), accuracy=float(margin > 0), harm=harm)


START = Found(0.0, reading(5.0, 0.0))


class Line:
    """A model that one number moves, and the gauge that reads it."""

    def __init__(self, answer: Callable[[float], tuple[float, float]]) -> None:
        self.answer, self.margins = answer, 0

    def put(self, step: float) -> None:
        self.margin, self.harmed = self.answer(step)

    def harm(self) -> float:
        return self.harmed

    def read(self, *, whole: bool = False, harm: bool = True) -> Reading:
        assert not harm
        self.margins += 1
        return reading(self.margin, math.nan)


def searched(line: Line, evaluations: int) -> Found:
    return largest_stable_step(line.put, line, START, 1.0, TOLERANCE, evaluations, 0.0)


def search(forgets_at: float, harms_at: float, evaluations: int = 12) -> Found:
    line = Line(lambda step: (5.0 * (1 - step / forgets_at), 0.0 if step < harms_at else 1.0))
    return searched(line, evaluations)


def test_what_a_step_that_harms_has_forgotten_is_not_read() -> None:
    harmful, harmless = Line(lambda _: (1.0, 1.0)), Line(lambda _: (1.0, 0.0))
    assert searched(harmful, 4) == START
    searched(harmless, 4)
    assert (harmful.margins, harmless.margins > 0) == (0, True)


@given(st.floats(0.01, 2.0), st.floats(0.01, 2.0))
def test_a_step_that_harms_is_never_taken(forgets_at: float, harms_at: float) -> None:
    found = search(forgets_at, harms_at)
    assert found.reading.harm <= TOLERANCE
    assert found.step < harms_at or found.step == 0.0


@given(st.floats(0.05, 0.9))
def test_the_smallest_step_that_forgets_is_found(forgets_at: float) -> None:
    found = search(forgets_at, harms_at=9.0)
    assert found.reading.remains(0.0) <= 0
    assert found.step - forgets_at <= 1.0 / 2**10


@given(st.floats(0.05, 0.9))
def test_the_largest_stable_step_is_found_where_none_forgets(harms_at: float) -> None:
    found = search(forgets_at=9.0, harms_at=harms_at)
    assert 0 <= harms_at - found.step <= 1.0 / 2**10


@given(st.lists(st.tuples(st.floats(-5, 20), st.floats(0, 1)), min_size=12, max_size=12))
def test_the_result_is_never_worse_than_standing_still(answers: list[tuple[float, float]]) -> None:
    left = iter(answers)
    found = searched(Line(lambda _: next(left)), len(answers))
    assert found.reading.worst <= START.reading.worst
    assert found.reading.harm <= TOLERANCE


def test_what_remains_is_the_tail_of_the_stand_ins() -> None:
    margins = torch.arange(100.0) - 95  # 4 of 100 above zero
    left = Reading(worst=-1.0, stand_ins=margins, accuracy=0.0, harm=0.0)
    assert left.remains(0.05) == -1.0
    assert left.remains(0.02) == 2.0
    assert left.regret() == pytest.approx(0.04)


def test_a_picture_at_hand_outweighs_every_stand_in() -> None:
    found = Reading(worst=3.0, stand_ins=torch.full((10,), -9.0), accuracy=0.25, harm=0.1)
    assert found.remains(0.5) == 3.0
    assert found.regret() == pytest.approx(0.35)
