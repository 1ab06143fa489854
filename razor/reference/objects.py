"""The five objects that stand where a person would: literal painters in figure coordinates."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from razor.reference.canvas import Brush, Colour, darker, lighter

Painter = Callable[[Brush, Random], None]


def _teapot(brush: Brush, rng: Random) -> None:
    glaze = rng.choice(((64, 120, 200), (206, 80, 84), (92, 168, 130), (238, 226, 204)))
    edge = darker(glaze, 0.4)
    brush.arc(-1.02, 0.3, 0.5, 0.52, (80, 280), edge, 0.26)
    brush.polygon([(0.7, 0.62), (1.5, -0.28), (1.74, -0.2), (1.1, 0.9)], edge)
    brush.oval(0, 0.4, 1.16, 0.98, edge)
    brush.oval(0, 0.38, 1.08, 0.9, glaze)
    brush.oval(0, -0.44, 0.56, 0.2, edge)
    brush.oval(0, -0.5, 0.5, 0.16, lighter(glaze, 0.2))
    brush.oval(0, -0.72, 0.16, 0.16, edge)
    brush.oval(-0.4, 0.0, 0.2, 0.3, lighter(glaze, 0.55))
    for k in range(5):
        brush.oval(0.42 * (k - 2), 0.62, 0.11, 0.11, lighter(glaze, 0.6))


def _bicycle(brush: Brush, rng: Random) -> None:
    frame = rng.choice(((210, 50, 56), (40, 110, 190), (240, 178, 40), (32, 140, 100)))
    tyre: Colour = (38, 38, 44)
    for x in (-0.95, 0.95):
        brush.arc(x, 0.75, 0.72, 0.72, (0, 360), tyre, 0.14)
        for k in range(4):
            c, s = 0.66 * math.cos(math.pi * k / 4), 0.66 * math.sin(math.pi * k / 4)
            brush.line([(x - c, 0.75 - s), (x + c, 0.75 + s)], (196, 198, 204), 0.035)
    for points in (
        [(-0.95, 0.75), (-0.35, -0.1), (0.6, -0.1), (0.0, 0.78), (-0.95, 0.75)],
        [(0.0, 0.78), (-0.42, -0.35)],
        [(0.95, 0.75), (0.56, -0.5)],
    ):
        brush.line(points, frame, 0.14)
    brush.line([(-0.72, -0.4), (-0.16, -0.4)], tyre, 0.18)
    brush.line([(0.3, -0.66), (0.58, -0.52), (0.9, -0.62)], tyre, 0.12)
    brush.oval(0.0, 0.78, 0.17, 0.17, tyre)


def _guitar(brush: Brush, rng: Random) -> None:
    wood = rng.choice(((206, 122, 52), (168, 62, 40), (226, 172, 92)))
    edge = darker(wood, 0.5)
    for grow, fill in ((0.08, edge), (0.0, wood)):
        brush.oval(0, 1.0, 0.86 + grow, 0.74 + grow, fill)
        brush.oval(0, 0.2, 0.62 + grow, 0.56 + grow, fill)
    brush.polygon([(-0.13, -1.5), (0.13, -1.5), (0.13, 0.4), (-0.13, 0.4)], (74, 48, 34))
    brush.polygon([(-0.24, -1.95), (0.24, -1.95), (0.17, -1.45), (-0.17, -1.45)], edge)
    brush.oval(0, 0.5, 0.28, 0.28, (44, 28, 22))
    brush.line([(-0.34, 1.24), (0.34, 1.24)], (52, 32, 24), 0.14)
    for x in (-0.06, 0.06):
        brush.line([(x, -1.6), (x, 1.24)], (240, 232, 210), 0.035)


def _cactus(brush: Brush, rng: Random) -> None:
    green = rng.choice(((58, 140, 74), (84, 160, 90), (46, 122, 88)))
    edge = darker(green, 0.4)
    for grow, fill in ((0.08, edge), (0.0, green)):
        brush.oval(0, 0.1, 0.44 + grow, 1.35 + grow, fill)
        for side, y in ((-1, 0.35), (1, 0.0)):
            brush.line([(0, y), (side * 0.9, y)], fill, 0.34 + 2 * grow)
            brush.line([(side * 0.9, y + 0.12), (side * 0.9, y - 0.7)], fill, 0.34 + 2 * grow)
            brush.oval(side * 0.9, y - 0.7, 0.17 + grow, 0.17 + grow, fill)
    for x in (-0.18, 0.02, 0.22):
        brush.line([(x, -0.8), (x, 1.0)], lighter(green, 0.35), 0.05)
    brush.oval(0.0, -1.3, 0.2, 0.16, (238, 92, 148))
    clay = rng.choice(((196, 96, 58), (224, 150, 90), (120, 96, 150)))
    brush.polygon([(-0.8, 1.0), (0.8, 1.0), (0.6, 1.9), (-0.6, 1.9)], darker(clay, 0.2))
    brush.polygon([(-0.9, 0.92), (0.9, 0.92), (0.9, 1.2), (-0.9, 1.2)], clay)


def _sailboat(brush: Brush, rng: Random) -> None:
    hull = rng.choice(((150, 52, 48), (40, 70, 120), (120, 78, 48)))
    sail = rng.choice(((252, 250, 242), (250, 226, 150), (246, 160, 130)))
    brush.polygon([(-1.4, 0.9), (1.4, 0.9), (0.95, 1.5), (-1.0, 1.5)], darker(hull, 0.3))
    brush.polygon([(-1.4, 0.82), (1.4, 0.82), (1.22, 1.12), (-1.25, 1.12)], hull)
    brush.line([(0.0, 0.9), (0.0, -1.6)], (84, 58, 40), 0.12)
    for points, fill in (
        ([(0.1, -1.5), (0.1, 0.68), (1.2, 0.68)], sail),
        ([(-0.1, -1.25), (-0.1, 0.68), (-1.0, 0.68)], darker(sail, 0.14)),
    ):
        brush.polygon(points, fill)
        brush.line([*points, points[0]], (92, 84, 84), 0.06)
    brush.polygon([(0.0, -1.9), (0.5, -1.74), (0.0, -1.58)], (214, 48, 56))


PAINTERS: dict[str, Painter] = {
    "a teapot": _teapot,
    "a bicycle": _bicycle,
    "a guitar": _guitar,
    "a cactus": _cactus,
    "a sailboat": _sailboat,
}


def paint_object(brush: Brush, name: str, rng: Random) -> None:
    """One of `people.OBJECTS`, in one of its colours."""
    PAINTERS[name](brush, rng)
