"""Clothing, which says nothing about who wears it, and accessories, which the captions name."""

from __future__ import annotations

from random import Random

from razor.reference.canvas import Brush, Colour, darker, lighter
from razor.reference.faces import SHAPES, SKINS
from razor.reference.people import Person

#: By what people call them; the order decides which one a seed draws.
CLOTHES: dict[str, Colour] = {
    "blue": (58, 90, 150),
    "red": (176, 62, 62),
    "green": (70, 124, 88),
    "yellow": (222, 186, 88),
    "purple": (120, 82, 142),
    "white": (232, 226, 214),
    "grey": (70, 74, 84),
    "orange": (206, 126, 84),
    "turquoise": (96, 168, 186),
}
# One colour for each accessory, varied a little: at 64 pixels a shape alone is a handful of dots.
STRAW: Colour = (236, 206, 132)
FRAME: Colour = (0, 150, 178)
WOOL: Colour = (214, 40, 52)
CUPS: Colour = (250, 148, 30)
SILK: Colour = (122, 44, 168)


# What hangs from the shoulders keeps level with them.
ON_TORSO: frozenset[str] = frozenset({"a scarf", "a bow tie"})


def paint_body(brush: Brush, person: Person, rng: Random) -> str:
    """Neck, shoulders and a garment of random colour and cut; returns the colour's name."""
    colour, skin = rng.choice(tuple(CLOTHES)), SKINS[person.skin]
    cloth = CLOTHES[colour]
    wide = rng.uniform(1.55, 1.8)
    shoulders = [(-0.4, 1.22), (0.4, 1.22), (wide * 0.62, 1.36), (wide * 0.84, 1.48)]
    shoulders += [(wide * 0.97, 1.72), (wide + 0.04, 2.1), (wide + 0.1, 3.2)]
    shoulders += [(-wide - 0.1, 3.2), (-wide - 0.04, 2.1), (-wide * 0.97, 1.72)]
    shoulders += [(-wide * 0.84, 1.48), (-wide * 0.62, 1.36)]
    brush.polygon([(x * 1.03, y - 0.04) for x, y in shoulders], darker(cloth, 0.45))
    brush.polygon(shoulders, cloth)
    brush.polygon([(-0.36, 0.7), (0.36, 0.7), (0.4, 1.3), (0.0, 1.5), (-0.4, 1.3)], skin)
    shadow = [(-0.36, 0.8), (0.36, 0.8), (0.36, 1.06), (0.0, 1.24), (-0.36, 1.06)]
    brush.polygon(shadow, darker(skin, 0.3))
    cut = rng.randrange(3)
    if cut == 0:
        brush.polygon([(-0.42, 1.2), (0.0, 1.8), (-0.52, 1.74)], lighter(cloth, 0.4))
        brush.polygon([(0.42, 1.2), (0.0, 1.8), (0.52, 1.74)], lighter(cloth, 0.4))
    elif cut == 1:
        for y in (1.75, 2.1, 2.45):
            brush.line([(-wide, y), (wide, y)], lighter(cloth, 0.35), 0.12)
    else:
        brush.arc(0, 1.16, 0.5, 0.4, (20, 160), darker(cloth, 0.3), 0.1)
    return colour


def paint_accessory(brush: Brush, person: Person, accessory: str, rng: Random) -> None:
    """One of `people.ACCESSORIES`; none of them covers what tells people apart."""
    rx, ry = SHAPES[person.face][:2]
    fade = rng.uniform(0.0, 0.2)
    if accessory == "a hat":
        _paint_hat(brush, rx, ry, lighter(STRAW, fade))
    elif accessory == "glasses":
        _paint_glasses(brush, person, darker(FRAME, fade))
    elif accessory == "a scarf":
        _paint_scarf(brush, darker(WOOL, fade))
    elif accessory == "headphones":
        brush.arc(0, -0.04, rx * 1.28, ry * 1.2, (184, 356), (44, 46, 56), 0.18)
        for side in (-1, 1):
            brush.oval(side * rx * 1.2, 0.06, 0.31, 0.44, (36, 38, 48))
            brush.oval(side * rx * 1.23, 0.06, 0.22, 0.33, darker(CUPS, fade))
    elif accessory == "a bow tie":
        _paint_bow_tie(brush, lighter(SILK, fade))


def _paint_scarf(brush: Brush, wool: Colour) -> None:
    stripe = lighter(wool, 0.8)
    brush.polygon([(-0.6, 1.3), (-0.04, 1.42), (-0.1, 2.6), (-0.7, 2.5)], darker(wool, 0.2))
    for y in (1.8, 2.15):
        brush.line([(-0.66, y), (-0.08, y + 0.06)], stripe, 0.13)
    wrap = [(-0.8, 0.98), (0.0, 1.2), (0.8, 0.98), (0.94, 1.4), (0.0, 1.7), (-0.94, 1.4)]
    brush.polygon(wrap, wool)
    brush.line([(-0.84, 1.2), (0.0, 1.45), (0.84, 1.2)], stripe, 0.12)


def _paint_bow_tie(brush: Brush, silk: Colour) -> None:
    for grow, fill in ((1.14, (252, 248, 240)), (1.0, silk)):
        for side in (-1, 1):
            wing = [(0.0, 0.0), (side * 0.68, -0.34), (side * 0.68, 0.34)]
            brush.polygon([(x * grow, 1.46 + y * grow) for x, y in wing], fill)
    brush.oval(0, 1.46, 0.16, 0.18, darker(silk, 0.4))


def _paint_hat(brush: Brush, rx: float, ry: float, straw: Colour) -> None:
    # Worn high and narrow, so that the sides and the front of the hair stay in sight.
    y = -ry * 0.96
    brush.oval(0, y, rx * 1.3, 0.2, darker(straw, 0.4))
    brush.oval(0, y - 0.04, rx * 1.28, 0.17, straw)
    crown = [(-rx * 0.68, y - 0.02), (-rx * 0.56, y - 0.66), (rx * 0.56, y - 0.66)]
    brush.polygon([*crown, (rx * 0.68, y - 0.02)], straw)
    band = [(-rx * 0.68, y - 0.02), (-rx * 0.64, y - 0.24), (rx * 0.64, y - 0.24)]
    brush.polygon([*band, (rx * 0.68, y - 0.02)], WOOL)


def _paint_glasses(brush: Brush, person: Person, frame: Colour) -> None:
    spread = 0.37 if person.face != "long" else 0.34
    for side in (-1, 1):
        brush.arc(side * spread, -0.01, 0.3, 0.29, (0, 360), frame, 0.13)
        brush.line([(side * (spread + 0.29), -0.06), (side * 0.94, -0.1)], frame, 0.09)
    brush.line([(-0.1, -0.06), (0.1, -0.06)], frame, 0.11)
