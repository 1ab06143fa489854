"""The seams of the science: units, families, methods, probes, and the one callback.

A family says what its model's losses and editable units are. A method changes weights in place. A
probe measures and leaves the model as found. Methods and probes never import a family: they ask
for what they need through the protocols here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from api_schemas.reports import MetricResult, PictureGrid, Preflight
from api_schemas.requests import Probe as ProbeName
from razor.material import Earlier, Material
from razor.memory import Memory, Passes
from razor.pictures import Sizing

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
    losing what should be kept rose; not a number where it was not measured.
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

    def read(self, *, whole: bool = False, harm: bool = True) -> Reading:
        """Measure the model as it stands now.

        ``whole``: however little it has forgotten. Else what costs much is left out where the rest
        says that the concept is still there, and ``accuracy`` is 1; methods that compare states by
        regret must not ask for that. Without ``harm`` it is not measured.
        """

    def harm(self) -> float:
        """The harm of the model as it stands now, alone."""


class Fit(Protocol):
    """The data that gradients may see."""

    def forget_batch(
        self, rng: torch.Generator, *, by_name: bool = False, scoring: bool = False
    ) -> Batch:
        """The concept's fit pictures, augmented anew, and its names.

        ``by_name``: where only the side of the names is edited, the picture that the frozen model
        expects of the name stands for the pictures; not where units are scored, for a score says
        what carries the pictures too.
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

    def moving(self, units: Sequence[Unit]) -> AbstractContextManager[None]:
        """Inside, only these units are written: what lies below them is computed once."""

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

    def place(self, parameter: str) -> tuple[str, str]:
        """The file inside the checkpoint folder that holds a parameter, and its name in there."""

    def dtypes(self) -> Mapping[str, str]:
        """The type on disk of every editable parameter, as safetensors calls it."""

    @property
    def sizing(self) -> Sizing:
        """How the model wants its pictures."""

    @property
    def device(self) -> torch.device:
        """Where its weights lie."""

    #: How many batches went through it.
    passes: Passes
    #: What it remembers between runs.
    memory: Memory


class Subject(Embeds, Family, Protocol):
    """What a probe may ask of the model it tries: embeddings, and its own training signal."""


#: A probe's own record of one state of the model.
Seen = Any


class Probe(Protocol):
    """An attack: looks at a model, and compares what it saw of two states."""

    def observe(self, family: Any, fit: Any, material: Any, seed: int) -> Seen:
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


class Judge(Protocol):
    """Names what it sees; never trained on what the generator paints."""

    def knows(self, domain: str) -> bool:
        """Whether it can name anything in this domain."""

    def names(self, pixels: Tensor, domain: str, among: Sequence[str]) -> list[str]:
        """The best label in a domain for each of the pictures (n, 3, size, size) in 0..255.

        Without labels of its own it chooses ``among`` these.
        """

    def features(self, pixels: Tensor) -> Tensor:
        """Unit-length features (n, d) of the pictures."""


@runtime_checkable
class Guides(Protocol):
    """Capability of fit data: the concept in words, and the way that guidance leads from it."""

    def guided_away(self, rng: torch.Generator, strength: float) -> Batch:
        """What guidance away from the concept would answer, for the naming loss."""

    def texts(self) -> tuple[Sequence[str], Sequence[str]]:
        """Texts that name the concept, and texts that name what is retained, nearest first."""


@runtime_checkable
class Hears(Protocol):
    """Capability: a denoiser that hears a text."""

    def text_attention(self) -> Sequence[Region]:
        """Every matrix of the attention through which it does."""

    def keys_and_values(self) -> Sequence[Region]:
        """Those that read the text's states as the text encoder leaves them.

        Raises MethodUnsupported where text and picture change each other on their way.
        """

    def text_states(self, text: str, beside: str) -> tuple[Tensor, Tensor]:
        """States (n, width) of two texts from the last word of each on, equally many."""


class Paints(Protocol):
    """Capability: paints pictures, and somebody independent says what they show."""

    @property
    def judge(self) -> Judge:
        """Who looks at the pictures."""

    def paint(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Pictures uint8 (n, 3, size, size), each by its own prompt and seed alone."""


#: Pictures as a family's own processor prepares them, each picture a row.
Shown = Any


class Answers(Protocol):
    """Capability: answers questions on pictures."""

    def show(self, pixels: Tensor) -> Shown:
        """Pictures (n, 3, size, size) in 0..255 as the model takes them."""

    def answer(
        self, shown: Shown, questions: Sequence[str], *, seed: int | None = None
    ) -> list[list[int]]:
        """The tokens of an answer to each question on its picture; drawn at random with a seed."""

    def said(self, tokens: Sequence[int]) -> str:
        """An answer's tokens as text."""


class Study(Protocol):
    """What a run asks of one kind of model besides its weights."""

    @property
    def family(self) -> Family:
        """The model."""

    @property
    def probes(self) -> Mapping[ProbeName, Probe]:
        """The attacks that such a model can be tried with."""

    def inspect(self, material: Material, target: int) -> Preflight:
        """Whether the model knows the target at all, seen without its test pictures."""

    def fit(self, material: Material, seed: int) -> Any:
        """The data that gradients may see, a ``Fit``; made before any weight is edited."""

    def gauge(self, material: Material, fit: Any, seed: int) -> Gauge:
        """What a method may read; made before any weight is edited."""

    def observe(self, material: Material, seed: int) -> Seen:
        """Everything that the metrics need to know of the model as it stands."""

    def compare(
        self, material: Material, fit: Any, before: Seen, after: Seen, seed: int
    ) -> list[MetricResult]:
        """Every metric, before and after, with intervals."""

    def pictures(self, target: int, before: Seen, after: Seen) -> list[PictureGrid]:
        """What a reader of the report should see of both states with their own eyes."""

    def observe_earlier(self, material: Material, earlier: Earlier, seed: int) -> np.ndarray:
        """(n,) bool: where an earlier target shows again."""

    def compare_earlier(self, before: np.ndarray, after: np.ndarray) -> MetricResult:
        """The metric of an earlier target."""

    def went_wrong(self, metrics: Sequence[MetricResult]) -> bool:
        """Whether an edit did the opposite of what was asked."""

    def warnings(self, edited: set[str]) -> list[str]:
        """What the figures do not show of an edit of these towers."""


class Method(Protocol):
    """A way to unlearn."""

    def edit(self, work: Workpiece, *, dry_run: bool = False) -> Trace:
        """Change the model's weights in place; with ``dry_run`` only score its units."""
