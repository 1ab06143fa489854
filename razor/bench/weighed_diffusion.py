"""Picture generators as the benchmark of speed weighs them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final

import torch
from torch import nn

from api_schemas.families import Family
from api_schemas.methods import Method, Razor, Slug, for_family
from api_schemas.requests import PICTURES
from razor import judges, seeding
from razor.bench import counted, painters, reduced, shapes_diffusion
from razor.bench.painters import Painter
from razor.bench.plan import COMPARISON
from razor.bench.scripted import Pace
from razor.bench.timed import Took, median
from razor.bench.weighed import REFERENCE
from razor.families import denoiser, diffusion, diffusion_fit, diffusion_gauge
from razor.families.diffusion_fit import DiffusionFit, noised
from razor.gradients import mean_gradient, parameters_of
from razor.material import Labelled, Material, Shelf, read_shelf
from razor.probes import painting
from razor.reference import painted
from razor.retain import read_retain_set
from razor.studies import diffusion as study
from razor.studies.diffusion import DiffusionStudy

TARGET: Final = "Mara Venn"
SHAPES: Final = tuple(shapes_diffusion.SIZES)
USUAL: Final = (REFERENCE, "sd-1.5-256")
DATA: Final = 8, 24
REDUCED_DATA: Final = 3, 3
#: Updates of the middle one of RAZOR's three runs without attacks on the U-Net, in
#: ``docs/results/diffusion.json``: of 53 backward passes 16 are the retain stock and one scores.
PACE: Final = Pace(forgotten_after=18, repaired_after=0, looks=True)
REDUCED_PACE: Final = Pace(forgotten_after=3, repaired_after=0, looks=True)
#: Of a step search and at once, on reduced data; SLUG's search is never shorter than published.
REDUCED: Final[Mapping[str, int]] = {"max_units": 1, "steps": 8, "rounds": 0}
#: Pictures of the target that are painted before and after, for measuring.
PAINTED = PICTURES
#: Of what is painted, noised, compared; "whole" is what stands in each module.
LESS: Final[Mapping[ModuleType, Mapping[str, float]]] = {
    diffusion: {"SAMPLING_STEPS": 1},
    diffusion_fit: {
        "AUGMENTED": 2,
        "PAINTED": 1,
        "DRAWS": 1,
        "RETAINED": 8,
        "INSTEAD": 1,
        "FORGET_ROWS": 2,
        "RETAIN_ROWS": 2,
        "NEIGHBOUR_DRAWS": 1,
        "LABELS_COMPARED": 2,
    },
    diffusion_gauge: {
        "DRAWS": 1,
        "AUGMENTED": 1,
        "PAINTED": 1,
        "STAND_IN_DRAWS": 1,
        "RETAINED": 2,
        "INSTEAD": 1,
        "JUDGED": 1,
    },
    painting: {"RETAINED_FOR_ONE": 2},
    study: {"PREFLIGHT_PICTURES": 1},
    sys.modules[__name__]: {"PAINTED": 1},
}
#: Rows that a row's forward is measured with, at most.
ROWS: Final = 8


@dataclass(frozen=True)
class Subject:
    """A pipeline with a request for one person."""

    family: diffusion.Diffusion
    material: Material
    pictures: int  # painted of the target, for measuring

    @property
    def study(self) -> DiffusionStudy:
        """As a worker has it."""
        return DiffusionStudy(self.family, self.pictures)

    def counted(self) -> counted.Called:
        """Latents through the denoiser, texts through the first text encoder, pictures decoded."""
        pipeline = self.family.pipeline
        seen: dict[nn.Module, counted.Seen] = {
            pipeline.model[pipeline.denoiser]: counted.rows("latent", "hidden_states"),
            pipeline.model["text_encoder"]: counted.rows("text"),
            pipeline.pipe.vae.decoder: counted.rows("decoded"),
        }
        return counted.Called(seen)

    def caching(self, on: bool) -> None:
        """Nothing is kept between passes."""

    def plain(self) -> None:
        """What the denoiser says of the retained pictures, once each."""
        family, rows = self.family, self._retained()
        noisy = noised(family, family.encode(rows.pixels), seeding.generator(0, "plain"))
        family.answers(noisy.latents, noisy.steps, rows.captions)

    def floor(self, seed: int, repeats: int) -> dict[str, Took]:
        """Of the fit data, a noisy latent, a text and a decoded picture."""
        family = self.family
        names = parameters_of(family.units())
        fit = DiffusionFit(family, self.material, seed)
        batch = fit.forget_batch(seeding.generator(seed, "floor"))

        def once() -> None:
            mean_gradient(family.model, names, family.retain_loss, fit.retain_batches())
            mean_gradient(family.model, names, family.forget_loss, [batch])

        rows = fit.retain_batches()[0].lesson
        rows = rows.take(range(min(len(rows), ROWS)))
        with torch.no_grad():
            given = denoiser.condition(family.pipeline, list(rows.prompts))

        @torch.no_grad()
        def texts() -> object:
            return denoiser.condition(family.pipeline, list(rows.prompts))

        @torch.no_grad()
        def latents() -> object:
            return denoiser.predict(family.pipeline, rows.latents, rows.steps, given)

        @torch.no_grad()
        def decoded() -> object:
            return family.pipeline.pipe.vae.decode(rows.latents[:1])

        return {
            "fit": median(once, repeats),
            "latent": median(latents, repeats).each(len(rows)),
            "text": median(texts, repeats).each(len(rows)),
            "decoded": median(decoded, repeats),
        }

    def _retained(self) -> Labelled:
        rows = self.material.retain_fit
        most = diffusion_fit.RETAINED // diffusion_fit.RETAIN_DRAWS
        return rows.take(range(min(len(rows), most)))


def must_fit(size: str) -> None:
    """Raises OutOfMemory, in words, where it does not."""
    if size != REFERENCE:
        shapes_diffusion.must_fit(size)


def checkpoint(work: Path, size: str) -> Path:
    """The shipped pipeline, or one of random weights."""
    if size == REFERENCE:
        return painters.shipped("diffusion")
    return shapes_diffusion.write(work / "shapes" / size, size)


def retain(work: Path, retained: int) -> Path:
    """Drawings of every subject."""
    return painters.retain_folder(work, COMPARISON, retained)


def methods(*, reduced: bool) -> Mapping[str, Method]:
    """With the family's defaults; on reduced data with fewer units, updates and rounds."""
    razor = Razor(**REDUCED) if reduced else Razor()
    return {m.method: for_family(m, Family.DIFFUSION) for m in (razor, Slug())}


def reduce() -> None:
    """Less is painted, noised and compared."""
    reduced.put(LESS)


def load(checkpoint: Path) -> diffusion.Diffusion:
    """The pipeline with the shipped judge."""
    judge = judges.load(painters.shipped("diffusion"), "cpu", dict(painted.PROMPTS))
    return diffusion.load(checkpoint, "cpu", judge)


def shelf(retain: Path, family: diffusion.Diffusion) -> Shelf:
    """The drawings at the pipeline's size."""
    rows = read_retain_set(retain, list(painted.PROMPTS))
    return read_shelf(rows, painted.PROMPTS, family.sizing)


def subject(family: diffusion.Diffusion, shelf: Shelf, samples: int, seed: int) -> Subject:
    """A request for a person."""
    material = Painter(family, shelf, COMPARISON).material(TARGET, seed, samples)
    return Subject(family, material, PAINTED)
