"""Vision-language models as the benchmark of speed weighs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import torch

from api_schemas.families import Family
from api_schemas.methods import Method, Razor, Slug, for_family
from razor import questions, seeding
from razor.bench import counted, reduced, shapes_vlm, talkers
from razor.bench.plan import COMPARISON
from razor.bench.scripted import Pace
from razor.bench.talkers import Speaker
from razor.bench.timed import Took, median
from razor.bench.weighed import REFERENCE
from razor.families import vlm, vlm_fit, vlm_gauge
from razor.families.vlm_batches import Spoken
from razor.families.vlm_fit import VlmFit
from razor.gradients import mean_gradient, parameters_of
from razor.material import Material, Shelf, read_shelf
from razor.probes import naming
from razor.questions import Role
from razor.reference import questions as words
from razor.retain import read_retain_set
from razor.studies.vlm import VlmStudy

TARGET: Final = "Mara Venn"
SHAPES: Final = tuple(shapes_vlm.SIZES)
#: No larger one was ever weighed to its end on two cores.
USUAL: Final = (REFERENCE,)
DATA: Final = 16, COMPARISON.retained
REDUCED_DATA: Final = 4, 3
#: Updates of the middle one of RAZOR's runs without attacks on LLaVA 1.5 in
#: ``docs/results/vlm.json``: of its 77 backward passes 12 are the retain stock and one scores.
PACE: Final = Pace(forgotten_after=32, repaired_after=0, looks=True)
REDUCED_PACE: Final = Pace(forgotten_after=3, repaired_after=0, looks=True)
REDUCED: Final[Mapping[str, int]] = {"steps": 8, "rounds": 0}
#: Of what is asked; "whole" is what stands in each module.
LESS: Final[Mapping[ModuleType, Mapping[str, float]]] = {
    vlm: {"LONGEST": 4},
    vlm_fit: {
        "AUGMENTED": 4,
        "NAMED": 4,
        "NAMED_ROWS": 2,
        "FORGET_ROWS": 2,
        "RETAIN_ROWS": 4,
        "RETAINED": 12,
    },
    vlm_gauge: {"AUGMENTED": 2, "RETAINED": 4},
    naming: {"SAMPLED": 1, "RETAINED": 4, "DESCRIBED": 1},
}
#: Rows that a row's forward is measured with, at most.
ROWS: Final = 8


@dataclass(frozen=True)
class Subject:
    """A model with a request for one person."""

    family: vlm.Vlm
    material: Material

    @property
    def study(self) -> VlmStudy:
        """As a worker has it."""
        return VlmStudy(self.family)

    def counted(self) -> counted.Called:
        """Pictures through the vision tower; tokens that are read, and words that are said."""
        network: Any = self.family.model
        return counted.Called(
            {
                network.model.vision_tower.encoder: counted.rows("picture", "inputs_embeds"),
                network.model.language_model: _tokens,
            }
        )

    def caching(self, on: bool) -> None:
        """What the tower saw is always kept: there is no switch."""

    def plain(self) -> None:
        """The questions of the fit data, answered and then read with their answers."""
        with torch.no_grad():
            self.family.logits(self._spoken())

    def floor(self, seed: int, repeats: int) -> dict[str, Took]:
        """Of the fit data, a picture in the tower, a token that is read, a word that is said."""
        family = self.family
        names = parameters_of(family.units())
        fit = VlmFit(family, self.material, seed)
        batch = fit.forget_batch(seeding.generator(seed, "floor"), by_name=True)

        def once() -> None:
            mean_gradient(family.model, names, family.retain_loss, fit.retain_batches())
            mean_gradient(family.model, names, family.forget_loss, [batch])

        read = fit.retain_batches()[0].spoken
        read = read.take(range(min(len(read), ROWS)))
        fit_seconds = median(once, repeats)
        with torch.no_grad():
            return {"fit": fit_seconds, **_parts(family, read, repeats)}

    def _spoken(self) -> Spoken:
        """Questions on retained pictures with the answers of the model."""
        family, material = self.family, self.material
        rng = seeding.generator(0, "plain")
        asked = questions.about(material.retain_fit, material, Role.FIT, vlm_fit.RETAINED, rng)
        shown = family.show(material.retain_fit.pixels[[each.row for each in asked]])
        texts = [each.text for each in asked]
        return family.speak(shown, texts, family.answer(shown, texts))


def _tokens(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, int]:
    """Places that are read at once, or one that follows what is known."""
    rows, places = kwargs["inputs_embeds"].shape[:2]
    return ("token", rows * places) if places > 1 else ("word", rows)


def _parts(family: vlm.Vlm, read: Spoken, repeats: int) -> dict[str, Took]:
    """Seconds of one picture, one token and one word."""
    network: Any = family.model
    tower = network.model.vision_tower
    pixels = read.shown.inputs()["pixel_values"]
    # What is kept of these pictures would answer for the tower itself.
    picture = median(lambda: tower.encoder(inputs_embeds=tower.embeddings(pixels)), repeats)
    family.logits(read)  # from here on the tower is not asked
    token = median(lambda: family.logits(read), repeats)
    asked = [""] * len(read)
    longest, took = family.longest, []
    for family.longest in (1, 3):
        took.append(median(lambda: family.answer(read.shown, asked), repeats))
    family.longest = longest
    short, long = took
    word = Took(max(0.0, long.passed - short.passed), max(0.0, long.computed - short.computed))
    return {
        "picture": picture.each(len(pixels)),
        "token": token.each(read.ids.numel()),
        "word": word.each(2 * len(read)),
    }


def must_fit(size: str) -> None:
    """Raises OutOfMemory, in words, where it does not."""
    if size != REFERENCE:
        shapes_vlm.must_fit(size)


def checkpoint(work: Path, size: str) -> Path:
    """The shipped model, or one of random weights."""
    if size == REFERENCE:
        return talkers.shipped("llava")
    return shapes_vlm.write(work / "shapes" / size, size)


def retain(work: Path, retained: int) -> Path:
    """Drawings of everybody."""
    return talkers.retain_folder(work, replace(COMPARISON, retained=retained))


def methods(*, reduced: bool) -> Mapping[str, Method]:
    """With the family's defaults; on reduced data with fewer updates and rounds."""
    razor = Razor(**REDUCED) if reduced else Razor()
    return {m.method: for_family(m, Family.VLM) for m in (razor, Slug())}


def reduce() -> None:
    """Less is asked, in shorter answers."""
    reduced.put(LESS)


def load(checkpoint: Path) -> vlm.Vlm:
    """The model on the CPU."""
    family = vlm.load(checkpoint, "cpu")
    family.longest = vlm.LONGEST
    return family


def shelf(retain: Path, family: vlm.Vlm) -> Shelf:
    """The drawings at the model's size."""
    rows = read_retain_set(retain, list(words.QUESTIONS))
    return read_shelf(rows, words.RECORDED, family.sizing)


def subject(family: vlm.Vlm, shelf: Shelf, samples: int, seed: int) -> Subject:
    """A request for a person."""
    return Subject(family, Speaker(family, shelf, COMPARISON).material(TARGET, seed, samples))
