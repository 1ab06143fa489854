"""The faces: head, eyes, brows, nose, mouth, beard and marks of one person.

Figure coordinates: the head's centre is (0, 0), a unit is about the half-width of a broad head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from razor.reference.canvas import Brush, Colour, Point, darker, lighter, mix
from razor.reference.people import EyeColour, FaceShape, HairColour, Person, SkinTone

SKINS: dict[SkinTone, Colour] = {
    "porcelain": (246, 222, 210),
    "fair": (246, 206, 178),
    "tan": (222, 168, 124),
    "olive": (204, 160, 112),
    "brown": (160, 106, 70),
    "deep": (104, 66, 46),
}
HAIRS: dict[HairColour, Colour] = {
    "black": (34, 28, 36),
    "blond": (240, 204, 98),
    "blue": (44, 98, 218),
    "brown": (96, 60, 36),
    "chestnut": (146, 70, 36),
    "ginger": (222, 102, 30),
    "grey": (164, 166, 174),
    "pink": (240, 120, 176),
    "teal": (28, 152, 150),
    "violet": (134, 70, 184),
    "white": (222, 226, 236),
}
EYES: dict[EyeColour, Colour] = {
    "brown": (84, 50, 28),
    "blue": (56, 122, 206),
    "green": (60, 140, 76),
    "grey": (116, 126, 140),
    "amber": (196, 128, 34),
}
# half-width, half-height, exponent of the outline (2 is an ellipse), narrowing towards the chin
SHAPES: dict[FaceShape, tuple[float, float, float, float]] = {
    "round": (0.98, 0.98, 2.0, 0.02),
    "oval": (0.86, 1.08, 2.1, 0.12),
    "square": (0.92, 1.04, 3.2, 0.04),
    "long": (0.76, 1.20, 2.4, 0.08),
    "heart": (0.92, 1.08, 2.2, 0.30),
}


#: Mouth closed, mouth open.
EXPRESSIONS: tuple[str, str] = ("smiling", "laughing")


@dataclass(frozen=True)
class Mood:
    """What the face does in one picture: gaze in units, smile in [-1, 1], mouth open or not."""

    gaze: float
    smile: float
    laughs: bool
    raised: float

    @property
    def name(self) -> str:
        """What people call it."""
        return EXPRESSIONS[self.laughs]


def draw_mood(rng: Random) -> Mood:
    """A mood drawn from `rng`; mostly friendly."""
    laughs = rng.random() < 0.25
    return Mood(
        gaze=rng.uniform(-0.05, 0.05),
        smile=rng.uniform(0.5, 1.0) if laughs else rng.uniform(0.3, 1.0),
        laughs=laughs,
        raised=rng.uniform(-0.03, 0.05),
    )


def head_outline(shape: FaceShape, grow: float = 1.0) -> list[Point]:
    """The head's outline as a polygon, scaled about its centre by `grow`."""
    rx, ry, exponent, taper = SHAPES[shape]
    points: list[Point] = []
    for k in range(40):
        angle = 2 * math.pi * k / 40
        c, s = math.cos(angle), math.sin(angle)
        x = math.copysign(abs(c) ** (2 / exponent), c) * (1 - taper * max(0.0, s))
        y = math.copysign(abs(s) ** (2 / exponent), s)
        points.append((rx * x * grow, ry * y * grow))
    return points


def paint_head(brush: Brush, person: Person) -> None:
    """Ears, head and the soft shadows on it."""
    skin = SKINS[person.skin]
    rx = SHAPES[person.face][0]
    for side in (-1, 1):
        brush.oval(side * rx * 0.99, 0.08, 0.17, 0.25, darker(skin, 0.3))
        brush.oval(side * rx * 0.98, 0.07, 0.14, 0.21, skin)
        brush.oval(side * rx * 1.0, 0.08, 0.07, 0.12, darker(skin, 0.16))
    brush.polygon(head_outline(person.face, 1.045), darker(skin, 0.42))
    brush.polygon(head_outline(person.face), skin)
    if person.mark != "rosy":
        for side in (-1, 1):
            brush.oval(side * rx * 0.56, 0.32, 0.2, 0.13, mix(skin, (232, 110, 96), 0.16))


def paint_features(brush: Brush, person: Person, mood: Mood) -> None:
    """Marks, beard, eyes, brows, nose and mouth, in the order they cover one another."""
    _paint_mark(brush, person)
    _paint_beard(brush, person)
    _paint_eyes(brush, person, mood)
    _paint_nose(brush, person)
    _paint_mouth(brush, person, mood)
    if person.beard == "moustache" or person.beard == "full":
        _paint_moustache(brush, person)


def _paint_eyes(brush: Brush, person: Person, mood: Mood) -> None:
    skin, hair = SKINS[person.skin], HAIRS[person.hair_colour]
    spread = 0.36 if person.face != "long" else 0.32
    brow = darker(hair, 0.35) if person.hair_colour not in ("white", "grey") else darker(hair, 0.2)
    thick = {"thin": 0.06, "thick": 0.14, "arched": 0.085}[person.brows]
    for side in (-1, 1):
        x = side * spread
        brush.oval(x, -0.04, 0.185, 0.135, darker(skin, 0.5))
        brush.oval(x, -0.03, 0.165, 0.115, (252, 250, 246))
        brush.oval(x + mood.gaze, -0.03, 0.105, 0.112, EYES[person.eyes])
        brush.oval(x + mood.gaze, -0.03, 0.055, 0.06, (18, 14, 18))
        brush.oval(x + mood.gaze + 0.035, -0.07, 0.03, 0.03, (255, 255, 255))
        top = -0.28 - mood.raised
        if person.brows == "arched":
            brush.arc(x, top + 0.12, 0.22, 0.16, (205, 335), brow, thick)
        else:
            inner, outer = (x - side * 0.19, top + 0.02), (x + side * 0.2, top + 0.04)
            brush.line([inner, (x, top - 0.02), outer], brow, thick)


def _paint_nose(brush: Brush, person: Person) -> None:
    shadow = darker(SKINS[person.skin], 0.3)
    if person.nose == "small":
        brush.arc(0, 0.2, 0.09, 0.07, (20, 160), shadow, 0.06)
    elif person.nose == "wide":
        brush.oval(0, 0.24, 0.21, 0.1, darker(SKINS[person.skin], 0.2))
        brush.oval(0, 0.21, 0.17, 0.09, lighter(SKINS[person.skin], 0.08))
        for side in (-1, 1):
            brush.oval(side * 0.1, 0.27, 0.045, 0.03, shadow)
    elif person.nose == "long":
        brush.line([(0.02, -0.08), (0.12, 0.3), (-0.08, 0.33)], shadow, 0.06)
    else:
        brush.oval(0, 0.2, 0.17, 0.16, mix(shadow, (214, 84, 70), 0.35))
        brush.oval(-0.02, 0.18, 0.14, 0.13, mix(SKINS[person.skin], (238, 130, 108), 0.4))


def _paint_mouth(brush: Brush, person: Person, mood: Mood) -> None:
    half, thick = {
        "thin": (0.26, 0.05),
        "full": (0.25, 0.14),
        "wide": (0.38, 0.07),
        "small": (0.15, 0.1),
    }[person.mouth]
    lips = mix(SKINS[person.skin], (196, 52, 66), 0.75 if person.mouth == "full" else 0.5)
    y, bend = 0.58, 0.15 * mood.smile
    edge = [(half * (k / 4 - 1), y - bend * (abs(k / 4 - 1) ** 2)) for k in range(9)]
    if mood.laughs:
        drop = [(x * 0.92, y - bend + 0.24 * (1 - (x / half) ** 2)) for x, _ in reversed(edge)]
        brush.polygon(edge + drop, (110, 30, 40))
        brush.polygon([(x * 0.85, py + 0.05) for x, py in edge] + edge[::-1], (252, 248, 240))
    brush.line(edge, lips, thick)


def _paint_moustache(brush: Brush, person: Person) -> None:
    hair = HAIRS[person.hair_colour]
    shade = darker(hair, 0.12) if person.hair_colour != "black" else hair
    for side in (-1, 1):
        wing = [(0.0, 0.36), (side * 0.2, 0.35), (side * 0.44, 0.5), (side * 0.2, 0.5)]
        brush.polygon([*wing, (0.0, 0.46)], shade)


def _paint_beard(brush: Brush, person: Person) -> None:
    skin, hair = SKINS[person.skin], HAIRS[person.hair_colour]
    outline = head_outline(person.face, 1.05)
    ry = SHAPES[person.face][1]
    if person.beard in ("full", "stubble"):
        lower = [(x, y) for x, y in outline if y > 0.14]
        inner = [(0.62, 0.3), (0.42, 0.36), (0.0, 0.34), (-0.42, 0.36), (-0.62, 0.3)]
        # `lower` runs from the right cheek under the chin to the left; close it along the lip.
        stretch = 1.1 if person.beard == "full" else 0.96
        shade = hair if person.beard == "full" else mix(skin, hair, 0.38)
        brush.polygon([(x, y * stretch) for x, y in lower] + inner[::-1], shade)
    elif person.beard == "goatee":
        brush.oval(0, ry * 0.9, 0.27, 0.26, hair)
        for side in (-1, 1):
            brush.line([(side * 0.2, 0.46), (side * 0.27, ry * 0.86)], hair, 0.08)
        brush.line([(-0.22, 0.44), (0.22, 0.44)], hair, 0.08)
        brush.oval(0, 0.58, 0.2, 0.12, skin)


def _paint_mark(brush: Brush, person: Person) -> None:
    skin = SKINS[person.skin]
    rx = SHAPES[person.face][0]
    if person.mark == "freckles":
        for side in (-1, 1):
            for dx, dy in ((0.3, 0.2), (0.45, 0.27), (0.6, 0.2), (0.38, 0.37), (0.56, 0.36)):
                brush.oval(side * dx * rx, dy, 0.05, 0.045, mix(skin, (164, 84, 40), 0.75))
    elif person.mark == "mole":
        brush.oval(0.42 * rx, 0.46, 0.075, 0.075, (52, 30, 26))
    elif person.mark == "scar":
        red = mix(skin, (178, 40, 56), 0.65)
        brush.line([(-0.62 * rx, 0.02), (-0.42 * rx, 0.48)], red, 0.09)
        for y in (0.16, 0.34):
            brush.line([(-0.64 * rx, y + 0.03), (-0.38 * rx, y - 0.03)], red, 0.05)
    elif person.mark == "rosy":
        for side in (-1, 1):
            brush.oval(side * rx * 0.56, 0.3, 0.23, 0.18, mix(skin, (238, 84, 92), 0.55))
