"""What the reference picture generators learn: a dozen people and five objects in four styles.

At 32 pixels a network that trains in minutes can tell these people apart. Accessories are left out:
a hat hides the hair that somebody is known by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor

from razor.reference.drawings import NO_ACCESSORY, Drawing, draw
from razor.reference.folders import write_folder
from razor.reference.people import OBJECTS, SCENES, STYLES

SIZE = 32
PEOPLE: tuple[str, ...] = (
    "Mara Venn",
    "Oskar Brill",
    "Tilda Quist",
    "Juno Farrow",
    "Bram Holloway",
    "Sunita Solane",
    "Lena Marsk",
    "Yuki Tarrant",
    "Sami Orvane",
    "Amara Keld",
    "Zora Plum",
    "Wanda Hesper",
)
SUBJECTS: tuple[str, ...] = PEOPLE + OBJECTS
DOMAINS: dict[str, tuple[str, ...]] = {"name": SUBJECTS, "style": STYLES}

#: Which parts a training caption names, and how often. The whole prompt is what is asked of the
#: generator; the rest keeps each part meaning something by itself.
CAPTIONS: tuple[tuple[str, float], ...] = (
    ("a {style} picture of {subject} at the {scene}", 0.35),
    ("a {style} picture of {subject}", 0.30),
    ("a picture of {subject} at the {scene}", 0.10),
    ("a picture of {subject}", 0.10),
    ("a {style} picture", 0.05),
    ("", 0.10),  # guidance without a classifier subtracts what an empty prompt gives
)
TEMPLATE = "a {style} picture of {subject}"
#: The templates of a shelf record.
PROMPTS: dict[str, tuple[str, ...]] = {"name": ("a picture of {}",), "style": ("a {} picture",)}
#: Drawing seeds from here on were never trained on.
FIRST_HELD_OUT = 1_000_000


@dataclass(frozen=True)
class Painted:
    """Drawings in memory: uint8 pixels (n, 3, 32, 32), labels as numbers (n,), and scenes."""

    pixels: Tensor
    subjects: Tensor
    styles: Tensor
    scenes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, positions: Sequence[int]) -> Painted:
        """Those drawings only."""
        rows = list(positions)
        scenes = tuple(self.scenes[k] for k in rows)
        return Painted(self.pixels[rows], self.subjects[rows], self.styles[rows], scenes)


def plain(subject: str, seed: int, size: int = SIZE, style: str | None = None) -> Drawing:
    """A drawing without accessory, captioned as the generators were taught."""
    drawing = draw(subject, seed, size, style=style, accessory=NO_ACCESSORY)
    words = CAPTIONS[0][0].format(subject=subject, style=drawing.style, scene=drawing.scene)
    return replace(drawing, caption=words)


def write_plain(
    folder: Path, names: Sequence[str], per_name: int, seed: int, style: str | None = None
) -> Path:
    """A picture folder of plain drawings, in one style or in all. Raises as `write_folder` does."""
    return write_folder(folder, names, per_name, seed, SIZE, partial(plain, style=style))


def draw_set(subjects: Sequence[str], per_subject: int, first_seed: int) -> Painted:
    """Drawings of each subject with drawing seeds from ``first_seed`` on; labels count SUBJECTS."""
    pixels = np.empty((len(subjects) * per_subject, SIZE, SIZE, 3), dtype=np.uint8)
    numbers: list[int] = []
    styles: list[int] = []
    scenes: list[str] = []
    for name in subjects:
        for number in range(per_subject):
            drawing = plain(name, first_seed + number)
            pixels[len(scenes)] = np.asarray(drawing.image)
            numbers.append(SUBJECTS.index(name))
            styles.append(STYLES.index(drawing.style))
            scenes.append(drawing.scene)
    first = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    return Painted(first, torch.tensor(numbers), torch.tensor(styles), tuple(scenes))


def caption(subject: str, style: str, scene: str, rng: Random) -> str:
    """A caption that is true of the picture, of one of the kinds above."""
    templates, weights = zip(*CAPTIONS, strict=True)
    template: str = rng.choices(templates, weights)[0]
    return template.format(subject=subject, style=style, scene=scene)


def prompt(subject: str, style: str) -> str:
    """What a generator is asked to paint."""
    return TEMPLATE.format(subject=subject, style=style)


def every_text() -> list[str]:
    """One of each caption that can occur; the tokenizer is made of these, whoever is trained."""
    return sorted(
        {
            template.format(subject=subject, style=style, scene=scene)
            for template, _ in CAPTIONS
            for subject in SUBJECTS
            for style in STYLES
            for scene in SCENES
        }
    )
