"""The four ways a finished drawing is rendered: literal functions from pixels to pixels.

A style works on floats in [0, 1] of shape (side, side, 3) and keeps hue where it can, so that
it changes how a person is drawn and not who is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.floating[Any]]
Style = Callable[[Pixels, np.random.Generator], Pixels]

# Rec. 601 luma: how bright a colour looks.
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@lru_cache(maxsize=8)
def _grid(side: int) -> tuple[Pixels, Pixels]:
    axis = (np.arange(side, dtype=np.float32) + 0.5) / side
    columns, rows = np.meshgrid(axis, axis)
    return columns, rows


def _grey(pixels: Pixels) -> Pixels:
    return np.asarray(pixels @ LUMA, dtype=np.float32)


def _soften(pixels: Pixels) -> Pixels:
    """A 3 x 3 binomial blur with repeated edges."""
    padded = np.pad(pixels, ((1, 1), (0, 0), (0, 0)), mode="edge")
    pixels = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    padded = np.pad(pixels, ((0, 0), (1, 1), (0, 0)), mode="edge")
    return (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4


def _edges(grey: Pixels) -> Pixels:
    """How fast brightness changes, in [0, 1]."""
    down = np.abs(np.diff(grey, axis=0, append=grey[-1:]))
    across = np.abs(np.diff(grey, axis=1, append=grey[:, -1:]))
    return np.minimum(1.0, 2.6 * (down + across))


def _noise(rng: np.random.Generator, side: int, cells: int) -> Pixels:
    """Smooth noise in [-1, 1], about `cells` blots to a side."""
    coarse = rng.uniform(-1, 1, (cells + 1, cells + 1)).astype(np.float32)
    place = np.linspace(0, cells - 1e-3, side, dtype=np.float32)
    low = place.astype(np.int64)
    part = place - low
    rows = coarse[low] * (1 - part)[:, None] + coarse[low + 1] * part[:, None]
    return np.asarray(rows[:, low] * (1 - part) + rows[:, low + 1] * part, dtype=np.float32)


def _photographic(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    side = pixels.shape[0]
    columns, rows = _grid(side)
    radius = (columns - 0.5) ** 2 + (rows - 0.45) ** 2
    lamp_x, lamp_y = rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.45)
    lamp = np.exp(-((columns - lamp_x) ** 2 + (rows - lamp_y) ** 2) / 0.05)
    shade: Pixels = (1.06 + 0.08 * lamp - 0.6 * radius)[..., None]
    grain = rng.normal(0, 0.01, (side, side, 1)).astype(np.float32)
    return 0.5 * (pixels + _soften(pixels)) * shade + grain


def _pencil(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    side = pixels.shape[0]
    columns, rows = _grid(side)
    grey = _grey(pixels)
    paper = np.array([0.98, 0.965, 0.93], dtype=np.float32)
    tint = 0.85 * pixels + 0.15 * grey[..., None]
    slant = rng.uniform(0.7, 1.3)
    hatch = np.sin((columns + slant * rows) * 105.0 + rng.uniform(0, 6.28)) * 0.5 + 0.5
    cover = 0.42 + 0.42 * (1 - grey) + 0.16 * (1 - grey) * hatch
    drawn: Pixels = paper * (1 - cover[..., None]) + tint * cover[..., None]
    inked: Pixels = drawn * (1 - 0.62 * _edges(grey)[..., None])
    return inked


def _watercolour(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    side = pixels.shape[0]
    columns, rows = _grid(side)
    # Wet edges: every pixel is fetched from up to about one fiftieth of the side away.
    shift = np.stack([_noise(rng, side, 9), _noise(rng, side, 9)]) * side / 50
    index = np.arange(side)
    down = np.clip(np.rint(index[:, None] + shift[0]), 0, side - 1).astype(np.int64)
    across = np.clip(np.rint(index[None, :] + shift[1]), 0, side - 1).astype(np.int64)
    wet = pixels[down, across]
    wet = 0.55 * wet + 0.45 * _soften(_soften(wet))
    wash = (0.84 + 0.12 * _noise(rng, side, 5) + 0.05 * _noise(rng, side, side // 2))[..., None]
    border = np.minimum(np.minimum(columns, 1 - columns), np.minimum(rows, 1 - rows))
    bare = np.clip((border - 0.035 - 0.03 * _noise(rng, side, 8)) / 0.03, 0, 1)[..., None]
    paper = np.array([1.0, 0.99, 0.965], dtype=np.float32)
    cover: Pixels = wash * bare
    painted: Pixels = paper * (1 - cover) + (wet**0.9) * cover
    return painted


def _poster(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    side = pixels.shape[0]
    columns, rows = _grid(side)
    grey = _grey(pixels)[..., None]
    vivid = grey + 1.45 * (pixels - grey)
    levels = 4.0
    flat: Pixels = np.rint(np.clip(vivid, 0, 1) * levels) / levels
    # Printed dots show in the bright half only, as on a cheap poster.
    pitch = 26.0
    dots = np.sin(columns * pitch * np.pi) * np.sin(rows * pitch * np.pi)
    dots = dots * rng.choice((-1.0, 1.0))
    printed: Pixels = flat - 0.13 * (dots > 0.25)[..., None] * (grey > 0.35)
    return printed


RENDERERS: dict[str, Style] = {
    "photographic": _photographic,
    "pencil": _pencil,
    "watercolour": _watercolour,
    "poster": _poster,
}


def render(pixels: Pixels, style: str, rng: np.random.Generator) -> Pixels:
    """The picture in one of `RENDERERS`, clipped to [0, 1]; same shape as `pixels`."""
    return np.clip(RENDERERS[style](pixels, rng), 0, 1).astype(np.float32)


def illuminate(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """The picture under a light of random side, strength and warmth."""
    columns, rows = _grid(pixels.shape[0])
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.28)
    fall = slope * (np.cos(angle) * (columns - 0.5) + np.sin(angle) * (rows - 0.5))
    warmth = rng.uniform(-0.05, 0.06)
    tint = np.array([1 + warmth, 1.0, 1 - warmth], dtype=np.float32)
    light = (rng.uniform(0.88, 1.08) + fall)[..., None] * tint
    lit: Pixels = np.clip(pixels * light, 0, 1).astype(np.float32)
    return lit
