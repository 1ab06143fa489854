from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patches import slices


@st.composite
def shapes_with_boxes(draw: st.DrawFn, count: int = 1) -> tuple[list[int], list[slices.Box]]:
    shape = draw(st.lists(st.integers(1, 5), max_size=4))
    boxes = []
    for _ in range(count):
        starts = [draw(st.integers(0, length - 1)) for length in shape]
        stops = [
            draw(st.integers(start + 1, length))
            for start, length in zip(starts, shape, strict=True)
        ]
        boxes.append(list(zip(starts, stops, strict=True)))
    return shape, boxes


def chosen(shape: list[int], box: slices.Box) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(start, stop) for start, stop in box)] = True
    return mask


@settings(max_examples=200, deadline=None)
@given(shapes_with_boxes())
def test_runs_are_the_elements_that_numpy_takes_in_its_order(
    case: tuple[list[int], list[slices.Box]],
) -> None:
    shape, (box,) = case
    found = [
        place for start, length in slices.runs(shape, box) for place in range(start, start + length)
    ]
    assert found == np.flatnonzero(chosen(shape, box)).tolist()


@settings(max_examples=200, deadline=None)
@given(shapes_with_boxes(), st.sampled_from(["U8", "F16", "F64"]))
def test_put_undoes_take(case: tuple[list[int], list[slices.Box]], dtype: str) -> None:
    shape, (box,) = case
    size = int(np.prod(shape)) * slices.element_bytes(dtype)
    whole = np.random.default_rng(0).bytes(size)
    part = slices.take(whole, dtype=dtype, shape=shape, box=box)
    target = bytearray(size)
    slices.put(target, part, dtype=dtype, shape=shape, box=box)
    assert slices.take(target, dtype=dtype, shape=shape, box=box) == part
    slices.put(target, bytes(len(part)), dtype=dtype, shape=shape, box=box)
    assert not any(target)  # nothing was written outside the box


@settings(max_examples=200, deadline=None)
@given(shapes_with_boxes(count=3))
def test_overlap_is_what_the_masks_say(case: tuple[list[int], list[slices.Box]]) -> None:
    shape, boxes = case
    masks = [chosen(shape, box) for box in boxes]
    expected = any((one & two).any() for one, two in itertools.combinations(masks, 2))
    assert slices.overlapping(boxes) == expected


def test_rows_join_into_one_run() -> None:
    assert list(slices.runs([6, 8, 2], [(1, 3), (0, 8), (0, 2)])) == [(16, 32)]
    assert len(list(slices.runs([6, 8, 2], [(1, 3), (0, 7), (0, 2)]))) == 2  # the control


@pytest.mark.parametrize("box", [[(0, 3)], [(1, 1), (0, 2)], [(0, 2), (0, 3)], [(-1, 1), (0, 1)]])
def test_a_box_outside_the_tensor_is_refused(box: list[tuple[int, int]]) -> None:
    assert slices.box_shape([2, 2], [(0, 2), (1, 2)]) == (2, 1)  # the control
    with pytest.raises(ValueError, match="slice"):
        slices.box_shape([2, 2], box)


def test_elements_that_share_bytes_cannot_be_sliced() -> None:
    with pytest.raises(ValueError, match="whole tensor"):
        slices.element_bytes("F4")
