"""Whether a generator paints the target again when its weights are rounded to 8 or 4 bits."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from torch import nn

from api_schemas.reports import Better, MetricResult
from razor import quantize
from razor.material import Material
from razor.probes import painting
from razor.probes.cards import Card
from razor.probes.quantize import BITS
from razor.protocols import Fit, Paints

HIGHER = Better.HIGHER
PICTURES = 24  # of the target and of what is retained, in each state


class Weighed(Paints, Protocol):
    """A generator whose weights lie open."""

    @property
    def model(self) -> nn.Module:
        """Text encoders and denoiser."""


def observe(
    family: Weighed, fit: Fit, material: Material, seed: int
) -> dict[int, tuple[np.ndarray, np.ndarray]]:  # bits -> (n,) gone, (m,) right
    """Where the rounded model does not paint the target, and where it paints the right other."""
    # Every matrix and kernel, as those do it who make a model smaller; not only what is editable.
    names = [name for name, p in family.model.named_parameters() if p.ndim > 1]
    found = {}
    for bits in BITS:
        with quantize.quantized(family.model, names, bits):
            found[bits] = painting.gone_and_right(family, material, PICTURES, PICTURES, seed)
    return found


def compare(
    material: Material,
    before: dict[int, tuple[np.ndarray, np.ndarray]],
    after: dict[int, tuple[np.ndarray, np.ndarray]],
    seed: int,
) -> list[MetricResult]:
    """UA and IRA of the rounded models."""
    results = []
    for bits in BITS:
        how = f"every matrix of text encoders and denoiser rounded to {bits} bits"
        cards = (
            Card(f"UA_int{bits}", f"unlearning accuracy, {bits} bits", f"UA, {how}.", HIGHER),
            Card(
                f"IRA_int{bits}", f"in-domain retain accuracy, {bits} bits", f"IRA, {how}.", HIGHER
            ),
        )
        pairs = zip(before[bits], after[bits], strict=True)
        results += [card.proportion(b, a) for card, (b, a) in zip(cards, pairs, strict=True)]
    return results
