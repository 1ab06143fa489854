"""What a family gives the benchmark of speed: a model, its data, its counters and its floor."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol, cast

from api_schemas.methods import Method
from razor.bench.scripted import Pace
from razor.bench.timed import Took
from razor.material import Material, Shelf
from razor.protocols import Family, Study

#: The model that the project ships, beside those of each family's shapes.
REFERENCE: Final = "reference"
#: Family -> the module that weighs it.
MODULES: Final[Mapping[str, str]] = {
    "clip": "razor.bench.weighed_clip",
    "diffusion": "razor.bench.weighed_diffusion",
    "vlm": "razor.bench.weighed_vlm",
}
#: Rows by kind and by whether a gradient was wanted: "text forward", "latent gradient".
Taken = Counter[str]


class Counts(Protocol):
    """Counts the rows that go through a model."""

    def taken(self) -> Taken:
        """What was counted since the last time this was asked."""


class Subject(Protocol):
    """A loaded model with a request for one target."""

    @property
    def study(self) -> Study:
        """As a worker has it."""

    @property
    def material(self) -> Material:
        """What the run works on."""

    def counted(self) -> Counts:
        """Counters at the model, from now on."""

    def caching(self, on: bool) -> None:
        """Switches what is kept between passes of one job, where there is such a thing."""

    def plain(self) -> None:
        """Inference over the fit data as it is run where no gradient is wanted."""

    def floor(self, seed: int, repeats: int) -> dict[str, Took]:
        """Seconds: ``fit``, and of a plain forward of one row of each kind; medians of so many.

        ``fit`` is one forward and backward over the fit data for all units.
        """


class Weigher(Protocol):
    """One family's module."""

    #: Shapes beside the shipped model, and which of all are measured where none is named.
    SHAPES: tuple[str, ...]
    USUAL: tuple[str, ...]
    #: Pictures of a request, and retained pictures of each subject: whole and reduced.
    DATA: tuple[int, int]
    REDUCED_DATA: tuple[int, int]
    #: Of a run of scripted length on whole data, and on reduced data.
    PACE: Pace
    REDUCED_PACE: Pace

    def must_fit(self, size: str) -> None:
        """Raises OutOfMemory, in words, where a size needs more memory than is free."""

    def checkpoint(self, work: Path, size: str) -> Path:
        """The folder of this size; made once."""

    def retain(self, work: Path, retained: int) -> Path:
        """The folder of what is to be kept, so many pictures of each; drawn once."""

    def methods(self, *, reduced: bool) -> Mapping[str, Method]:
        """RAZOR and SLUG with the family's own defaults."""

    def reduce(self) -> None:
        """From now on this process works on less data, with fewer steps."""

    def load(self, checkpoint: Path) -> Family:
        """The model on the CPU."""

    def shelf(self, retain: Path, family: Family) -> Shelf:
        """What is to be kept, as the model takes it."""

    def subject(self, family: Family, shelf: Shelf, samples: int, seed: int) -> Subject:
        """A request for the benchmark's target."""


def of(family: str) -> Weigher:
    """The family's module; imported here, for one process weighs one family."""
    return cast(Weigher, importlib.import_module(MODULES[family]))


def sizes(family: str) -> tuple[str, ...]:
    """Every size of a family."""
    return (REFERENCE, *of(family).SHAPES)
