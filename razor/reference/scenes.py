"""The six places behind a figure: literal painters, one per scene, in the unit square."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from PIL import Image

from razor.reference.canvas import Brush, Colour, Pose, darker, lighter, mix

Painter = Callable[[Brush, Random], None]


def _box(brush: Brush, x0: float, y0: float, x1: float, y1: float, fill: Colour) -> None:
    brush.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], fill)


def _bands(brush: Brush, y0: float, y1: float, top: Colour, bottom: Colour) -> None:
    steps = 7
    for k in range(steps):
        low, high = y0 + (y1 - y0) * k / steps, y0 + (y1 - y0) * (k + 1) / steps
        _box(brush, -0.1, low, 1.1, high, mix(top, bottom, k / (steps - 1)))


def _beach(brush: Brush, rng: Random) -> None:
    sea = rng.uniform(0.40, 0.52)
    sand = sea + rng.uniform(0.16, 0.24)
    _bands(brush, -0.1, sea, (126, 205, 244), (206, 238, 250))
    brush.oval(rng.choice((0.1, 0.9)), rng.uniform(0.06, 0.2), 0.09, 0.09, (255, 244, 178))
    _bands(brush, sea, sand, (38, 142, 190), (84, 196, 214))
    _box(brush, -0.1, sand, 1.1, 1.1, (244, 218, 160))
    _box(brush, -0.1, sand, 1.1, sand + 0.03, (250, 246, 232))
    for _ in range(3):
        x, y = rng.uniform(0, 1), rng.uniform(sea + 0.03, sand - 0.03)
        brush.line([(x - 0.06, y), (x + 0.06, y)], (214, 240, 244), 0.012)


def _forest(brush: Brush, rng: Random) -> None:
    _bands(brush, -0.1, 0.8, (160, 205, 128), (70, 130, 74))
    _box(brush, -0.1, 0.74, 1.1, 1.1, (60, 98, 50))
    for k in range(7):
        x = (k + rng.uniform(0.2, 0.8)) / 7
        trunk = mix((92, 66, 44), (58, 70, 40), rng.random())
        _box(brush, x - 0.025, 0.1, x + 0.025, 0.8, trunk)
        leaf = mix((34, 92, 50), (88, 150, 70), rng.random())
        for level in range(3):
            y, half = rng.uniform(-0.06, 0.02) + 0.19 * level, 0.08 + 0.035 * level
            brush.polygon([(x, y - 0.12), (x - half, y + 0.16), (x + half, y + 0.16)], leaf)


def _city(brush: Brush, rng: Random) -> None:
    _bands(brush, -0.1, 1.1, (88, 84, 140), (250, 172, 130))
    x = -0.05
    while x < 1.0:
        wide, top = rng.uniform(0.13, 0.2), rng.uniform(0.08, 0.42)
        wall = mix((56, 60, 92), (96, 98, 132), rng.random())
        _box(brush, x, top, x + wide - 0.01, 1.1, wall)
        for row in range(6):
            for column in range(2):
                if rng.random() < 0.7:
                    left = x + wide * (0.2 + 0.38 * column)
                    y = top + 0.05 + 0.1 * row
                    _box(brush, left, y, left + 0.035, y + 0.05, (255, 222, 130))
        x += wide


def _library(brush: Brush, rng: Random) -> None:
    _box(brush, -0.1, -0.1, 1.1, 1.1, (112, 72, 42))
    bindings: tuple[Colour, ...] = (
        (168, 54, 48), (44, 84, 124), (212, 168, 82), (64, 110, 74), (228, 214, 186), (110, 60, 96),
    )  # fmt: skip
    for shelf in range(4):
        bottom = 0.2 + 0.28 * shelf
        _box(brush, -0.1, bottom - 0.22, 1.1, bottom, (62, 38, 24))
        x = rng.uniform(-0.06, 0.0)
        while x < 1.0:
            thick = rng.uniform(0.04, 0.065)
            top = bottom - rng.uniform(0.14, 0.21)
            _box(brush, x, top, x + thick - 0.006, bottom, rng.choice(bindings))
            x += thick


def _mountains(brush: Brush, rng: Random) -> None:
    _bands(brush, -0.1, 0.9, (170, 198, 232), (240, 232, 244))
    for layer, rock in enumerate(((150, 150, 190), (106, 106, 150))):
        for k in range(3):
            x = k / 2 + rng.uniform(-0.14, 0.14)
            top = rng.uniform(0.1, 0.26) + 0.16 * layer
            brush.polygon([(x, top), (x - 0.42, 1.0), (x + 0.42, 1.0)], rock)
            snow = [(x, top), (x - 0.1, top + 0.17), (x - 0.03, top + 0.12)]
            snow += [(x + 0.03, top + 0.18), (x + 0.1, top + 0.17)]
            brush.polygon(snow, (250, 252, 255))
    _box(brush, -0.1, 0.86, 1.1, 1.1, (214, 224, 240))


def _theatre(brush: Brush, rng: Random) -> None:
    red = mix((168, 24, 44), (140, 22, 60), rng.random())
    _box(brush, -0.1, -0.1, 1.1, 1.1, red)
    for k in range(9):
        x = (k + rng.uniform(0.1, 0.5)) / 9
        _box(brush, x, -0.1, x + 0.045, 0.86, darker(red, 0.38))
        _box(brush, x + 0.045, -0.1, x + 0.06, 0.86, lighter(red, 0.2))
    _box(brush, -0.1, 0.86, 1.1, 1.1, (116, 76, 46))
    depth = rng.uniform(0.08, 0.12)
    for k in range(5):
        brush.oval(k / 4, -0.02, 0.125, depth, (226, 178, 76))
        brush.oval(k / 4, -0.05, 0.125, depth, darker(red, 0.25))


PAINTERS: dict[str, Painter] = {
    "beach": _beach,
    "forest": _forest,
    "city": _city,
    "library": _library,
    "mountains": _mountains,
    "theatre": _theatre,
}


def paint_scene(image: Image.Image, scene: str, rng: Random) -> None:
    """Cover the whole image with one of `PAINTERS`, varied by `rng`."""
    side = float(image.width)
    zoom = side * rng.uniform(1.0, 1.12)
    tilt = rng.uniform(-0.03, 0.03)
    half = zoom / 2
    # The unit square's middle stays in the image's middle, whatever the tilt.
    corner_x = side / 2 - half * (math.cos(tilt) - math.sin(tilt))
    corner_y = side / 2 - half * (math.sin(tilt) + math.cos(tilt))
    PAINTERS[scene](Brush(image, Pose(corner_x, corner_y, zoom, tilt)), rng)
