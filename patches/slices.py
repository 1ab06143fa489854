"""Boxes in a tensor: half-open ranges per dimension, and the runs of bytes they cover."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from patches.container import DTYPE_BITS, Bytes

Box: TypeAlias = Sequence[tuple[int, int]]


def box_shape(shape: Sequence[int], box: Box | None) -> tuple[int, ...]:
    """The shape of the part; raises ValueError if the box is not inside the tensor."""
    if box is None:
        return tuple(shape)
    if len(box) != len(shape):
        raise ValueError("a slice needs one range for each dimension")
    for (start, stop), length in zip(box, shape, strict=True):
        if not 0 <= start < stop <= length:
            raise ValueError("a slice is empty or reaches over the edge")
    return tuple(stop - start for start, stop in box)


def runs(shape: Sequence[int], box: Box) -> Iterator[tuple[int, int]]:
    """The (start, length) of each contiguous run of elements, in row-major order.

    Trailing dimensions that are taken whole join into one run, so rows cost one run each.
    """
    inner = len(shape)
    length = 1
    while inner and length == math.prod(shape[inner:]):
        inner -= 1
        length *= box[inner][1] - box[inner][0]
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    first = sum(start * stride for (start, _), stride in zip(box, strides, strict=True))
    steps = [
        range(0, (box[axis][1] - box[axis][0]) * strides[axis], strides[axis])
        for axis in range(inner)
    ]
    for offsets in itertools.product(*steps):
        yield first + sum(offsets), length


def element_bytes(dtype: str) -> int:
    """Whole bytes of one element; raises ValueError where elements share bytes."""
    bits = DTYPE_BITS[dtype]
    if bits % 8:
        raise ValueError(f"{dtype} packs elements into bytes; replace the whole tensor instead")
    return bits // 8


def put(whole: bytearray, part: Bytes, *, dtype: str, shape: Sequence[int], box: Box) -> None:
    """Write the part (row-major) into its place in the whole tensor's bytes."""
    width = element_bytes(dtype)
    source, position = memoryview(part), 0
    for start, length in runs(shape, box):
        size = length * width
        whole[start * width : start * width + size] = source[position : position + size]
        position += size


def take(whole: Bytes, *, dtype: str, shape: Sequence[int], box: Box) -> bytes:
    """The part of the whole tensor's bytes that the box covers, row-major."""
    width = element_bytes(dtype)
    view = memoryview(whole)
    return b"".join(
        view[start * width : (start + length) * width] for start, length in runs(shape, box)
    )


def overlapping(boxes: Iterable[Box]) -> bool:
    """Whether any two boxes share an element."""
    ordered = sorted(boxes, key=lambda box: box[0] if box else (0, 0))
    active: list[Box] = []
    for box in ordered:
        if not box:  # a scalar: two boxes are the same element
            return len(ordered) > 1
        active = [other for other in active if other[0][1] > box[0][0]]
        if any(_share(box, other) for other in active):
            return True
        active.append(box)
    return False


def _share(one: Box, other: Box) -> bool:
    return all(
        a_start < b_stop and b_start < a_stop
        for (a_start, a_stop), (b_start, b_stop) in zip(one, other, strict=True)
    )
