"""CLIP models as the benchmark of speed weighs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from api_schemas.methods import Method, Razor, Slug
from razor import seeding
from razor.bench import portraits, shapes, world
from razor.bench.counted import Encoded
from razor.bench.plan import COMPARISON
from razor.bench.scripted import Pace
from razor.bench.timed import Took, median
from razor.bench.weighed import REFERENCE
from razor.families import clip
from razor.families.clip_fit import ClipFit
from razor.gradients import mean_gradient, parameters_of
from razor.material import Material, Shelf, assemble, read_shelf
from razor.reference import captions
from razor.reference.clip import shipped_clip
from razor.retain import read_retain_set
from razor.studies.clip import ClipStudy

TARGET: Final = "Mara Venn"
SHAPES: Final = tuple(shapes.CLIP)
#: What two cores weigh within an hour; larger ones are asked for by name.
USUAL: Final = (REFERENCE, "vit-s-32", "vit-b-32")
DATA: Final = 8, 4
REDUCED_DATA: Final = DATA
#: With the scoring that makes some 60 gradients: the median of RAZOR's 72 runs in
#: ``docs/results/clip.json`` is 65. Nothing is ever reduced.
PACE: Final = Pace(forgotten_after=26, repaired_after=3, looks=False)
REDUCED_PACE: Final = PACE
#: Texts that a text's forward is measured with.
TEXTS: Final = 256


@dataclass(frozen=True)
class Subject:
    """A CLIP model with a request for one person."""

    family: clip.Clip
    material: Material

    @property
    def study(self) -> ClipStudy:
        """As a worker has it."""
        return ClipStudy(self.family)

    def counted(self) -> Encoded:
        """Pictures and texts through the encoders."""
        return Encoded(self.family)

    def caching(self, on: bool) -> None:
        """Features that were computed before, and passes that begin where weights move."""
        self.family.resumption.on = self.family.known.on = on

    def plain(self) -> None:
        """Every pair."""
        self.family.embed_images(self.material.retain_fit.pixels)
        self.family.embed_texts(self.material.retain_fit.captions)

    def floor(self, seed: int, repeats: int) -> dict[str, Took]:
        """Of the fit data, a picture and a text."""
        family, material = self.family, self.material
        # The floor is of whole rows.
        family.known.on = family.network.packing.on = False
        names = parameters_of(family.units())
        fit = ClipFit(family, material, seed)
        batch = fit.forget_batch(seeding.generator(seed, "floor"))

        def once() -> None:
            mean_gradient(family.model, names, family.retain_loss, fit.retain_batches())
            mean_gradient(family.model, names, family.forget_loss, [batch])

        pixels = material.retain_fit.pixels.clone()  # known to stand in no retain set
        # Different ones, for equal texts are encoded once; as long as those of a reading.
        sentences = [f"{text} {number}" for number in range(TEXTS) for text in material.prompts()]
        texts = sentences[:TEXTS]
        return {
            "fit": median(once, repeats),
            "picture": median(lambda: family.embed_images(pixels), repeats).each(len(pixels)),
            "text": median(lambda: family.embed_texts(texts), repeats).each(len(texts)),
        }


def must_fit(size: str) -> None:
    """All of them do where anything does."""


def checkpoint(work: Path, size: str) -> Path:
    """The shipped model, or one of random weights."""
    return shipped_clip() if size == REFERENCE else shapes.clip(work / "shapes" / size, size)


def retain(work: Path, retained: int) -> Path:
    """Drawings of everybody."""
    return world.retain_folder(work, replace(COMPARISON, retained=retained))


def methods(*, reduced: bool) -> Mapping[str, Method]:
    """With their defaults."""
    return {"razor": Razor(), "slug": Slug()}


def reduce() -> None:
    """Nothing: CLIP models are weighed with whole data."""


def load(checkpoint: Path) -> clip.Clip:
    """The model on the CPU."""
    return clip.load(checkpoint)


def shelf(retain: Path, family: clip.Clip) -> Shelf:
    """The drawings at the model's size."""
    rows = read_retain_set(retain, list(captions.PROMPTS))
    return read_shelf(rows, captions.PROMPTS, family.sizing)


def subject(family: clip.Clip, shelf: Shelf, samples: int, seed: int) -> Subject:
    """A request for a person."""
    asked = portraits.asked(COMPARISON, TARGET, samples)
    return Subject(family, assemble(shelf, asked, family.sizing, seed))
