"""Whether a vision-language model names the target again when it is rounded to 8 or 4 bits."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from torch import nn

from api_schemas.reports import MetricResult
from razor import quantize
from razor.material import Material
from razor.probes import naming
from razor.probes.cards import Card
from razor.probes.quantize import BITS
from razor.protocols import Answers, Fit


class Weighed(Answers, Protocol):
    """A model whose weights lie open."""

    @property
    def model(self) -> nn.Module:
        """The network."""


def observe(
    family: Weighed, fit: Fit, material: Material, seed: int
) -> dict[int, dict[str, np.ndarray]]:  # bits -> metric -> (n,) bool
    """Which answers of the rounded models hold the target's name, and which others are right."""
    names = [name for name, p in family.model.named_parameters() if p.ndim > 1]
    found = {}
    for bits in BITS:
        with quantize.quantized(family.model, names, bits):
            seen = naming.observe(family, material, seed)
        found[bits] = naming.hits(material, seen)
    return found


def compare(
    material: Material,
    before: dict[int, dict[str, np.ndarray]],
    after: dict[int, dict[str, np.ndarray]],
    seed: int,
) -> list[MetricResult]:
    """NR, RNR and VQA of the rounded models."""
    return [
        Card(
            f"{card.id}_int{bits}",
            f"{card.name}, {bits} bits",
            f"{card.id}, every matrix of the model rounded to {bits} bits.",
            card.better,
        ).proportion(before[bits][card.id], after[bits][card.id])
        for bits in BITS
        for card in naming.COUNTED
        if card.id in before[bits]
    ]
