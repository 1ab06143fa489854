"""What the reference picture generators learn: a dozen people and five objects in four styles.

At 32 pixels a network that trains in minutes can tell these people apart. Accessories are left out:
a hat hides the hair that somebody is known by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from torch import Tensor

from razor.reference.drawings import NO_ACCESSORY, draw
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
DOMAINS: dict[str, tuple[str, ...]] = {"subject": SUBJECTS, "style": STYLES}

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


def draw_set(subjects: Sequence[str], per_subject: int, first_seed: int) -> Painted:
    """Drawings of each subject with drawing seeds from ``first_seed`` on; labels count SUBJECTS."""
    pixels = np.empty((len(subjects) * per_subject, SIZE, SIZE, 3), dtype=np.uint8)
    numbers: list[int] = []
    styles: list[int] = []
    scenes: list[str] = []
    for name in subjects:
        for number in range(per_subject):
            drawing = draw(name, first_seed + number, SIZE, accessory=NO_ACCESSORY)
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
