"""The hair of one person, in two passes: what falls behind the head and what lies on it."""

from __future__ import annotations

import math

from razor.reference.canvas import Brush, Colour, Point, darker, lighter
from razor.reference.faces import HAIRS, SHAPES
from razor.reference.people import HairStyle, Person

# Height of the hairline at (temple, forehead middle), in units above the head's centre.
HAIRLINES: dict[HairStyle, tuple[float, float]] = {
    "afro": (0.36, 0.58),
    "bob": (0.02, 0.40),
    "braid": (0.22, 0.66),
    "bun": (0.26, 0.62),
    "crop": (0.30, 0.66),
    "curly": (0.28, 0.56),
    "fringe": (0.0, 0.38),
    "long": (0.02, 0.76),
    "pigtails": (0.22, 0.60),
    "sidepart": (0.26, 0.56),
    "spiky": (0.30, 0.60),
    "wavy": (0.04, 0.68),
}


def paint_hair_behind(brush: Brush, person: Person) -> None:
    """The part of the hair that the head covers."""
    rx, ry = SHAPES[person.face][:2]
    hair = HAIRS[person.hair_colour]
    shade = darker(hair, 0.22)
    if person.hair in ("long", "fringe"):
        brush.oval(0, -0.1, rx * 1.26, ry * 1.12, hair)
        sides = [(-rx * 1.26, -0.1), (rx * 1.26, -0.1), (rx * 1.34, 1.62), (-rx * 1.34, 1.62)]
        brush.polygon(sides, shade)
    elif person.hair == "wavy":
        brush.oval(0, -0.1, rx * 1.28, ry * 1.1, hair)
        for side in (-1, 1):
            for k, y in enumerate((0.0, 0.36, 0.72, 1.05)):
                brush.oval(side * rx * (1.14 + 0.1 * (k % 2)), y, 0.34, 0.3, shade)
    elif person.hair == "bob":
        brush.oval(0, -0.1, rx * 1.26, ry * 1.1, hair)
        lower = [(-rx * 1.26, -0.1), (rx * 1.26, -0.1), (rx * 1.42, 0.74), (rx * 0.7, 0.92)]
        brush.polygon([*lower, (-rx * 0.7, 0.92), (-rx * 1.42, 0.74)], shade)
    elif person.hair == "afro":
        for k in range(14):
            angle = math.pi * (0.84 + 1.32 * k / 13)
            x, y = rx * 1.24 * math.cos(angle), -0.26 + 1.05 * math.sin(angle)
            brush.oval(x, y, 0.42, 0.42, hair if k % 2 else lighter(hair, 0.06))
        brush.oval(0, -0.36, rx * 1.2, 1.0, hair)
    elif person.hair == "bun":
        brush.oval(0, -ry * 1.22, 0.46, 0.4, shade)
        brush.oval(-0.02, -ry * 1.24, 0.4, 0.34, hair)
    elif person.hair == "pigtails":
        for side in (-1, 1):
            brush.oval(side * rx * 1.42, 0.24, 0.34, 0.56, shade)
            brush.oval(side * rx * 1.42, 0.2, 0.26, 0.48, hair)
            brush.oval(side * rx * 1.16, -0.2, 0.13, 0.13, (226, 62, 84))
    elif person.hair == "curly":
        for k in range(9):
            angle = math.pi * (0.96 + 1.08 * k / 8)
            brush.oval(rx * 1.1 * math.cos(angle), ry * 0.98 * math.sin(angle), 0.3, 0.3, shade)


def paint_hair_before(brush: Brush, person: Person) -> None:
    """The part of the hair that covers the head."""
    rx, ry = SHAPES[person.face][:2]
    hair = HAIRS[person.hair_colour]
    if person.hair == "bald":
        brush.oval(-0.3 * rx, -0.66 * ry, 0.2, 0.12, (255, 240, 222))
    elif person.hair == "mohawk":
        _paint_mohawk(brush, ry, hair)
    elif person.hair == "receding":
        _paint_receding(brush, rx, ry, hair)
    else:
        brush.polygon(_cap(person), hair)
        _paint_top(brush, person, hair)
        if person.hair not in ("curly", "afro"):
            shine = lighter(hair, 0.3)
            brush.arc(-0.12, -0.12, rx * 0.78, ry * 0.86, (222, 272), shine, 0.09)


def _cap(person: Person) -> list[Point]:
    """The hair that lies on the skull: an outer arc and back along the hairline."""
    rx, ry, exponent, _ = SHAPES[person.face]
    temple, middle = HAIRLINES[person.hair]
    outer: list[Point] = []
    for k in range(17):
        angle = math.pi + math.pi * k / 16
        c, s = math.cos(angle), math.sin(angle)
        x = math.copysign(abs(c) ** (2 / exponent), c)
        outer.append((rx * 1.1 * x, -ry * 1.1 * abs(s) ** (2 / exponent)))
    outer[0], outer[-1] = (-rx * 1.1, -temple + 0.14), (rx * 1.1, -temple + 0.14)
    if person.hair == "sidepart":
        inner = [(rx * 0.92, -temple), (rx * 0.55, -0.44), (-rx * 0.4, -0.78), (-rx * 0.92, -0.3)]
    elif person.hair in ("long", "wavy"):
        inner = [(rx * 0.94, 0.2), (rx * 0.74, -0.42), (0.0, -middle - 0.08)]
        inner += [(-rx * 0.74, -0.42), (-rx * 0.94, 0.2)]
    else:
        inner = [(rx * 0.92, -temple), (rx * 0.7, -middle + 0.08), (0.0, -middle)]
        inner += [(-rx * 0.7, -middle + 0.08), (-rx * 0.92, -temple)]
    return outer + inner


def _paint_top(brush: Brush, person: Person, hair: Colour) -> None:
    rx, ry = SHAPES[person.face][:2]
    if person.hair == "spiky":
        for k in range(7):
            x = rx * (k / 3 - 1) * 0.96
            root = -ry * 0.72 + 0.34 * abs(k / 3 - 1) ** 2
            tip = (x * 1.3, root - 0.72 + 0.24 * abs(k / 3 - 1))
            brush.polygon([(x - 0.26, root), tip, (x + 0.26, root)], hair)
    elif person.hair == "curly":
        for k in range(7):
            angle = math.pi * (1.06 + 0.88 * k / 6)
            x, y = rx * 0.92 * math.cos(angle), ry * 0.92 * math.sin(angle)
            brush.oval(x, y, 0.27, 0.25, hair if k % 2 else lighter(hair, 0.12))
    elif person.hair in ("fringe", "bob"):
        for k in range(4):
            x = rx * (0.4 * k - 0.6)
            brush.line([(x, -0.74), (x * 1.05, -0.44)], darker(hair, 0.2), 0.05)
        for side in (-1, 1):
            brush.polygon(
                [(side * rx * 1.14, -0.5), (side * rx * 0.8, -0.4), (side * rx * 0.92, 0.62),
                 (side * rx * 1.2, 0.62)], hair)  # fmt: skip
    elif person.hair == "braid":
        brush.line([(0, -ry * 1.06), (0, -0.68)], darker(hair, 0.5), 0.05)
        for k in range(5):
            y = 0.5 + 0.3 * k
            brush.oval(rx * 1.02, y, 0.25, 0.21, hair if k % 2 else lighter(hair, 0.16))
        brush.oval(rx * 1.02, 1.78, 0.17, 0.1, (240, 190, 60))


def _paint_mohawk(brush: Brush, ry: float, hair: Colour) -> None:
    crest = [(-0.3, -ry * 0.68), (-0.42, -ry * 1.12), (-0.24, -ry * 1.46), (0.0, -ry * 1.56)]
    crest += [(0.24, -ry * 1.46), (0.42, -ry * 1.12), (0.3, -ry * 0.68), (0.0, -ry * 0.58)]
    brush.polygon(crest, hair)
    for x in (-0.14, 0.1):
        brush.line([(x, -ry * 0.74), (x * 1.3, -ry * 1.4)], lighter(hair, 0.35), 0.06)


def _paint_receding(brush: Brush, rx: float, ry: float, hair: Colour) -> None:
    for side in (-1, 1):
        puff = [(side * rx * 0.98, 0.08), (side * rx * 1.2, -0.1), (side * rx * 1.16, -0.5)]
        puff += [(side * rx * 0.86, -ry * 0.74), (side * rx * 0.84, -0.34)]
        brush.polygon(puff, hair)
    for x in (-0.22, 0.0, 0.22):
        brush.line([(x, -ry * 0.94), (x * 1.3 + 0.05, -ry * 1.12)], hair, 0.07)
