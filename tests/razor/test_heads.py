"""Units: heads partition the attention weights, and nothing but matrices is ever a unit."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from razor.families.clip import Clip
from razor.heads import Layer, head_units, matrices, plain_layer
from razor.protocols import Region, Unit


def fused_layer(width: int, heads: int) -> Layer:
    blocks = [Region("in", ((i * width, (i + 1) * width), (0, width))) for i in range(3)]
    return plain_layer(
        "image",
        0,
        heads,
        *blocks,
        Region("out", ((0, width), (0, width))),
        Region("up", ((0, 4 * width), (0, width))),
        Region("down", ((0, width), (0, 4 * width))),
    )


def covered(units: list[Unit], parameter: str, shape: tuple[int, ...]) -> torch.Tensor:
    count = torch.zeros(shape, dtype=torch.long)
    for unit in units:
        for region in unit.regions:
            if region.parameter == parameter:
                region.of(count).add_(1)
    return count


@pytest.mark.parametrize(("width", "heads"), [(8, 1), (8, 2), (12, 3), (64, 8)])
def test_head_slices_partition_the_weights(width: int, heads: int) -> None:
    units = list(head_units(fused_layer(width, heads)))
    assert len(units) == heads
    assert (covered(units, "in", (3 * width, width)) == 1).all()
    assert (covered(units, "out", (width, width)) == 1).all()


def test_a_head_takes_rows_of_q_k_v_and_columns_of_out() -> None:
    unit = list(head_units(fused_layer(8, 2)))[1]
    assert [region.ranges for region in unit.regions] == [
        ((4, 8), (0, 8)),
        ((12, 16), (0, 8)),
        ((20, 24), (0, 8)),
        ((0, 8), (4, 8)),
    ]


def test_matrices_cover_the_layer_once() -> None:
    units = list(matrices(fused_layer(8, 2)))
    assert [unit.name for unit in units] == [
        f"image.0.{part}" for part in ("q", "k", "v", "out", "up", "down")
    ]
    assert (covered(units, "in", (24, 8)) == 1).all()
    assert not any(a.overlaps(b) for a in units for b in units if a is not b)


def test_every_head_overlaps_its_own_layer_only() -> None:
    layer = fused_layer(8, 2)
    head = next(iter(head_units(layer)))
    touched = {unit.name for unit in matrices(layer) if unit.overlaps(head)}
    assert touched == {"image.0.q", "image.0.k", "image.0.v", "image.0.out"}


def test_units_of_the_reference_are_matrices_and_heads_only(reference: Clip) -> None:
    units = reference.units()
    kinds = Counter((unit.tower, unit.kind) for unit in units)
    image, text = (
        sum(1 for layer in reference.network.layers if layer.tower == t) for t in ("image", "text")
    )
    assert kinds["image", "matrix"] == 6 * image
    assert kinds["text", "matrix"] == 6 * text
    assert kinds["image", "head"] == 4 * image
    parameters = dict(reference.model.named_parameters())
    for unit in units:
        for region in unit.regions:
            assert parameters[region.parameter].ndim == 2
            assert not any(
                word in region.parameter for word in ("ln_", "bias", "embedding", "logit_scale")
            )
