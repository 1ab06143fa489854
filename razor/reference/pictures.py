"""A set of pictures in memory with what is true of each and what each caption states."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor

from razor.reference.captions import aliases
from razor.reference.drawings import draw
from razor.reference.errors import TrainingDataError
from razor.reference.folders import SEEDS_PER_FOLDER, Row, open_picture, read_folder

DOMAINS = ("name", "scene", "accessory", "style")
# Drawing seeds from here on, inside folder seed 0, are kept for measuring.
FIRST_HELD_OUT = SEEDS_PER_FOLDER - 100_000


@dataclass(frozen=True)
class PictureSet:
    """Pictures and their rows, in one order.

    `pixels` is uint8 of shape (n, 3, size, size).
    """

    pixels: Tensor
    rows: tuple[Row, ...]

    def names(self) -> tuple[str, ...]:
        """The names that occur, in order of first appearance."""
        return tuple(dict.fromkeys(row.name for row in self.rows))

    def only(self, keep: Sequence[int]) -> PictureSet:
        """The pictures at these positions."""
        return PictureSet(self.pixels[list(keep)], tuple(self.rows[k] for k in keep))

    def without(self, names: Sequence[str]) -> PictureSet:
        """The pictures of everybody else."""
        return self.only([k for k, row in enumerate(self.rows) if row.name not in names])

    def digest(self) -> str:
        """SHA-256 over every pixel and every row: equal digests mean equal sets."""
        sha = hashlib.sha256(self.pixels.numpy().tobytes())
        for row in self.rows:
            cells = (row.name, row.caption, row.scene, row.accessory, row.style)
            sha.update("\x1f".join(cell or "" for cell in cells).encode() + b"\x1e")
        return sha.hexdigest()


def draw_pictures(
    names: Sequence[str], per_name: int, first_seed: int, size: int = 64
) -> PictureSet:
    """Drawings of `names` with drawing seeds from `first_seed` on, in memory."""
    pixels = np.empty((len(names) * per_name, size, size, 3), dtype=np.uint8)
    rows: list[Row] = []
    for name in names:
        for k in range(per_name):
            drawing = draw(name, first_seed + k, size=size)
            pixels[len(rows)] = np.asarray(drawing.image)
            rows.append(
                Row("", name, drawing.caption, drawing.scene, drawing.accessory, drawing.style)
            )
    return PictureSet(_channels_first(pixels), tuple(rows))


def load_pictures(folder: Path, size: int = 64) -> PictureSet:
    """A folder's pictures, resized to `size`. Raises `FolderError` as `read_folder` does."""
    rows = read_folder(folder)
    pixels = np.empty((len(rows), size, size, 3), dtype=np.uint8)
    for k, row in enumerate(rows):
        pixels[k] = np.asarray(open_picture(folder / row.path, size))
    return PictureSet(_channels_first(pixels), tuple(rows))


def split_pictures(
    pictures: PictureSet, seed: int, held_out_share: float = 0.15
) -> tuple[PictureSet, PictureSet]:
    """Training and held-out pictures: disjoint, seeded, every name in both.

    A name's draw depends on the seed and the name alone, so leaving others out does not move it.
    Raises `TrainingDataError` when a name has a single picture or there are fewer than two names.
    """
    if len(pictures.names()) < 2:
        raise TrainingDataError("the folder shows fewer than two names; add pictures of others")
    train: list[int] = []
    held_out: list[int] = []
    for name in pictures.names():
        places = [k for k, row in enumerate(pictures.rows) if row.name == name]
        if len(places) < 2:
            raise TrainingDataError(
                "a name has a single picture; give every name at least two, one to train on and "
                "one to measure on"
            )
        Random(f"razor split|{seed}|{name}").shuffle(places)
        count = min(len(places) - 1, max(1, round(held_out_share * len(places))))
        held_out += places[:count]
        train += places[count:]
    return pictures.only(sorted(train)), pictures.only(sorted(held_out))


def facts(rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """What is true of each picture and what each caption states.

    Returns (values, stated): int64 (n, 4), the value's number in each of `DOMAINS` (-1 unknown),
    and bool (n, 4). A caption states a fact when the value, or another way to say it
    (`captions.aliases`), stands in it as whole words. A caption that states nothing counts as
    stating the name: it is somebody's, and nothing else is known of it.
    """
    values = torch.full((len(rows), len(DOMAINS)), -1, dtype=torch.int64)
    stated = torch.zeros((len(rows), len(DOMAINS)), dtype=torch.bool)
    for column, domain in enumerate(DOMAINS):
        numbers: dict[str, int] = {}
        patterns: dict[str, re.Pattern[str]] = {}
        for k, row in enumerate(rows):
            value: str | None = getattr(row, domain)
            if value is None:
                continue
            if value not in numbers:
                numbers[value] = len(numbers)
                ways = aliases(value) if domain == "name" else (value,)
                spelt = "|".join(re.escape(way.lower()) for way in ways)
                patterns[value] = re.compile(rf"(?<!\w)(?:{spelt})(?!\w)")
            values[k, column] = numbers[value]
            stated[k, column] = patterns[value].search(row.caption.lower()) is not None
    stated[:, 0] |= ~stated.any(dim=1)
    return values, stated


def matches(values: Tensor, stated: Tensor) -> Tensor:
    """Which captions are true of which pictures: bool (captions, pictures).

    Caption i is true of picture j when everything that i states holds for j; hence it is always
    true of its own picture. `values` int64 (n, 4) and `stated` bool (n, 4) as `facts` gives them.
    """
    same = values[:, None, :] == values[None, :, :]
    return (same | ~stated[:, None, :]).all(dim=2)


def _channels_first(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
