"""The seams of the science: units, families, methods, probes, and the one callback.

A family says what its model's losses and editable units are. A method changes weights in place. A
probe measures and leaves the model as found. Methods and probes never import a family: they ask
for what they need through the protocols here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from api_schemas.reports import MetricResult

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
    ``worst`` is the largest margin of the pictures at hand, ``accuracy`` the share of them that is
    still recognised. ``stand_ins`` are margins of pictures that nobody sent but that might come:
    those at hand, varied as pictures of one retained thing vary. ``harm`` is how much the risk of
    losing what should be kept rose.
    """

    worst: float
    stand_ins: Tensor  # (m,) logits, ascending; may be empty
    accuracy: float
    harm: float

    def remains(self, risk: float) -> float:
        """What is left to forget, in logits; <= 0 = forgotten.

        Every picture at hand must have lost, and at most the share ``risk`` of the stand-ins may
        still be recognised: a few pictures say little about the tail of those that nobody sent.
        """
        if not len(self.stand_ins):
            return self.worst
        place = min(len(self.stand_ins) - 1, math.ceil((1 - risk) * len(self.stand_ins)) - 1)
        return max(self.worst, float(self.stand_ins[max(0, place)]))

    def regret(self) -> float:
        """What is wrong with this state in all: the chance of recognition plus the harm.

        The one figure by which methods that have no stopping rule of their own are tuned.
        """
        seen = float((self.stand_ins > 0).float().mean()) if len(self.stand_ins) else 0.0
        return max(seen, self.accuracy) + self.harm


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

    def forget_batch(self, rng: torch.Generator, *, by_name: bool = False) -> Batch:
        """The concept's fit pictures, augmented anew, and its names.

        ``by_name``: where only the side of the names is edited, the picture that the frozen model
        expects of the name stands for the pictures.
        """

    def retain_batch(self, rng: torch.Generator) -> Batch:
        """A batch of retain pairs, the concept's neighbours weighed up."""

    def retain_batches(self) -> Sequence[Batch]:
        """Every retain fit pair once, in a fixed order."""

    def retain_gradient(self, names: Sequence[str]) -> Mapping[str, Tensor]:
        """Gradient of the retain loss over ``retain_batches``, on the weights as they stand.

        On the weights that the run began with it is computed once per model version.
        """

    def relabelled_batch(self, rng: torch.Generator) -> Batch:
        """The concept's fit pictures, each with a random retained label, for the naming loss."""

    def naming_batches(self, *, target: bool, size: int) -> Sequence[Batch]:
        """The concept's or the retained fit pictures with their own labels, ``size`` at a time."""


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

    def naming_loss(self, batch: Batch) -> Tensor:
        """How wrongly the model names the batch's pictures: what its training taught it."""

    def checkpoint_name(self, parameter: str) -> str:
        """The name on disk of a parameter in memory."""


class Subject(Embeds, Family, Protocol):
    """What a probe may ask of the model it tries: embeddings, and its own training signal."""


#: A probe's own record of one state of the model.
Seen = Any


class Probe(Protocol):
    """An attack: looks at a model, and compares what it saw of two states."""

    def observe(self, family: Subject, fit: Fit, material: Any, seed: int) -> Seen:
        """What the attack finds on the model as it stands; leaves it bit for bit as found."""

    def compare(self, material: Any, before: Seen, after: Seen, seed: int) -> list[MetricResult]:
        """Its figures, before and after, with intervals."""


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


@dataclass(frozen=True)
class Workpiece:
    """What a method edits, what it learns from, what judges it, and who is told of its progress."""

    family: Family
    fit: Fit
    gauge: Gauge
    rng: torch.Generator
    tick: Tick


class Method(Protocol):
    """A way to unlearn."""

    def edit(self, work: Workpiece, *, dry_run: bool = False) -> Trace:
        """Change the model's weights in place; with ``dry_run`` only score its units."""
