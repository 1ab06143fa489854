"""The seams of the science: units, families, methods, probes, and the one callback.

A family says what its model's losses and editable units are. A method changes weights in place. A
probe measures and leaves the model as found. Methods and probes never import a family: they ask
for what they need through the protocols here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Range = tuple[int, int]

#: A family's own kind of batch. Methods only carry it from the fit data to the family's losses.
Batch = Any


@dataclass(frozen=True)
class Region:
    """A block of one parameter: a half-open range per dimension, always spelled out."""

    parameter: str
    ranges: tuple[Range, ...]

    def of(self, tensor: Tensor) -> Tensor:
        """The block as a view of ``tensor``, which has the parameter's shape."""
        return tensor[tuple(slice(start, stop) for start, stop in self.ranges)]

    def size(self) -> int:
        """Number of values in the block."""
        size = 1
        for start, stop in self.ranges:
            size *= stop - start
        return size

    def overlaps(self, other: Region) -> bool:
        """Whether the two share at least one value."""
        return self.parameter == other.parameter and all(
            a < d and c < b for (a, b), (c, d) in zip(self.ranges, other.ranges, strict=True)
        )


@dataclass(frozen=True)
class Unit:
    """One thing that may be edited: a weight matrix of a layer, or one attention head."""

    name: str
    tower: str
    layer: int
    kind: str  # "matrix" or "head"
    regions: tuple[Region, ...]

    def overlaps(self, other: Unit) -> bool:
        """Whether the two share at least one value."""
        return any(a.overlaps(b) for a in self.regions for b in other.regions)

    def size(self) -> int:
        """Number of values in the unit."""
        return sum(region.size() for region in self.regions)


@dataclass(frozen=True)
class Reading:
    """What the gauge sees on fit and select pictures, never on test pictures.

    A picture's margin is how far the concept leads its best rival, in logits; negative = it lost.
    ``margin`` is the mean over select pictures, ``worst`` the largest of all; ``spread`` is
    how much margins differ between pictures of one thing (a standard deviation, on the frozen
    model). ``harm`` is how much the risk
    of losing a retain select picture rose; ``accuracy`` is the share of the concept's pictures
    that are still recognised.
    """

    margin: float
    worst: float
    spread: float
    harm: float
    accuracy: float

    def remains(self, safety: float) -> float:
        """What is left to forget, in logits; <= 0 = forgotten.

        Every picture at hand must have lost, and the mean must lie ``safety`` spreads below zero:
        a few pictures say little about the tail of those that nobody sent.
        """
        return max(self.margin + safety * self.spread, self.worst)


class Tick(Protocol):
    """Progress out, cancellation in: raises ``Cancelled`` when the caller wants to stop."""

    def __call__(self, phase: str, fraction: float, figures: Mapping[str, float]) -> None:
        """Report that ``fraction`` (0 to 1) of ``phase`` is done."""


class Gauge(Protocol):
    """Reads the model that is being edited."""

    def read(self) -> Reading:
        """Measure the model as it stands now."""


class Fit(Protocol):
    """The data that gradients may see."""

    def forget_batch(self, rng: torch.Generator) -> Batch:
        """The concept's fit pictures, augmented anew."""

    def retain_batch(self, rng: torch.Generator) -> Batch:
        """A batch of retain pairs, the concept's neighbours weighed up."""

    def retain_batches(self) -> Sequence[Batch]:
        """Every retain fit pair once, in a fixed order."""


class Embeds(Protocol):
    """Capability: puts pictures and texts into one space."""

    @property
    def size(self) -> int:
        """Side of the pictures that the model takes, in pixels."""

    def embed_images(self, pixels: Tensor) -> Tensor:
        """Unit-length features (n, d) of pixels (n, 3, size, size) in 0..255."""

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit-length features (n, d)."""

    def logit_scale(self) -> float:
        """The factor from cosine to logit."""

    def tower_state(self, tower: str) -> int:
        """Changes whenever a weight of the tower ('image' or 'text') is written."""


class Family(Protocol):
    """A model whose concepts can be edited."""

    @property
    def model(self) -> nn.Module:
        """The network, in evaluation mode."""

    def units(self) -> Sequence[Unit]:
        """Everything that may be edited; heads lie inside matrices."""

    def forget_loss(self, batch: Batch) -> Tensor:
        """L_forget, un-negated: moving weights along +gradient forgets."""

    def retain_loss(self, batch: Batch) -> Tensor:
        """L_retain: moving weights along -gradient keeps what is retained."""

    def mismatch_loss(self, batch: Batch) -> Tensor:
        """Drift from the frozen model's outputs on retain pairs."""

    def kept_losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Retain and mismatch loss from one forward pass."""

    def checkpoint_name(self, parameter: str) -> str:
        """The name on disk of a parameter in memory."""


@dataclass(frozen=True)
class Score:
    """How much a unit carries the concept and how little it carries everything else."""

    unit: Unit
    value: float
    forget_norm: float
    weight_norm: float
    cosine: float


@dataclass(frozen=True)
class Trace:
    """What a method saw and did; what changed in the weights is found by comparison instead."""

    scores: tuple[Score, ...]
    chosen: Mapping[str, int]


class Method(Protocol):
    """A way to unlearn."""

    def edit(
        self,
        family: Family,
        fit: Fit,
        gauge: Gauge,
        rng: torch.Generator,
        tick: Tick,
        *,
        dry_run: bool = False,
    ) -> Trace:
        """Change the model's weights in place; with ``dry_run`` only score its units."""
