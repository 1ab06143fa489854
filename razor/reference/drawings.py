"""Draws one picture of one subject: same arguments, same bytes, on any machine and process.

The subject's row in `people` decides who is seen; the seed decides pose, light, mood, clothing,
scene, accessory, style and caption. Nothing depends on `hash()`, the clock or global state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image, ImageFilter

from razor.reference import captions, faces, hair, objects, scenes, styles, wear
from razor.reference.canvas import Brush, Pose
from razor.reference.errors import UnknownSubjectError
from razor.reference.people import (
    ACCESSORIES,
    NAMES,
    OBJECTS,
    SCENES,
    STRANGER,
    STYLES,
    Person,
    person_named,
    stranger,
)

# Painted larger and averaged down, which is what makes small features look clean.
OVERSAMPLE = 4
NO_ACCESSORY = ACCESSORIES[0]


@dataclass(frozen=True)
class Drawing:
    """One picture with everything that is true of it; most fields are `index.csv`'s columns.

    Objects have no expression and wear no colour.
    """

    image: Image.Image
    name: str
    caption: str
    scene: str
    accessory: str
    style: str
    expression: str | None
    colour: str | None


def draw(
    subject_name: str,
    seed: int,
    size: int = 64,
    style: str | None = None,
    scene: str | None = None,
    accessory: str | None = None,
) -> Drawing:
    """One RGB picture of `size` x `size` pixels, decided by the arguments alone.

    `style`, `scene` and `accessory` fix what the seed would otherwise choose and leave the rest
    of the picture as it was. Objects wear nothing. Raises `UnknownSubjectError` for a name that
    is not in `people.NAMES` or an attribute that is not in its table.
    """
    if subject_name not in NAMES:
        raise UnknownSubjectError(
            f"no drawn subject is called {subject_name!r}; the names are in "
            "razor.reference.people.NAMES"
        )
    person = None if subject_name in OBJECTS else person_named(subject_name)
    return _drawn(subject_name, person, seed, size, style, scene, accessory)


def draw_stranger(seed: int, size: int = 64) -> Drawing:
    """A picture of somebody whom nobody has named; another seed, another person."""
    return _drawn(STRANGER, stranger(seed), seed, size, None, None, None)


def portrait(name: str, seed: int, size: int = 64) -> Drawing:
    """A picture of anybody: of a stranger where the name is `STRANGER`."""
    return draw_stranger(seed, size) if name == STRANGER else draw(name, seed, size)


def _drawn(
    subject_name: str,
    person: Person | None,
    seed: int,
    size: int,
    style: str | None,
    scene: str | None,
    accessory: str | None,
) -> Drawing:
    rng = Random(f"razor drawing|{subject_name}|{seed}")
    scene = _chosen("scene", scene, SCENES, rng)
    accessory = _chosen("accessory", accessory, ACCESSORIES, rng)
    style = _chosen("style", style, STYLES, rng)
    if person is None:
        accessory = NO_ACCESSORY
    caption = captions.caption_for(
        subject_name, scene, accessory, style, Random(f"{rng.getrandbits(64)}")
    )
    light = np.random.default_rng(rng.getrandbits(64))
    canvas = Image.new("RGB", (size * OVERSAMPLE, size * OVERSAMPLE))
    told = _paint(canvas, person or subject_name, scene, accessory, rng)
    pixels: styles.Pixels = np.asarray(canvas.reduce(OVERSAMPLE), dtype=np.float32) / 255
    pixels = styles.render(styles.illuminate(pixels, light), style, light)
    image = Image.fromarray(np.rint(pixels * 255).astype(np.uint8))
    return Drawing(image, subject_name, caption, scene, accessory, style, *told)


def _chosen(domain: str, wanted: str | None, table: tuple[str, ...], rng: Random) -> str:
    # Always drawn, so that fixing one attribute does not change what the seed says of the others.
    drawn = rng.choice(table)
    if wanted is None:
        return drawn
    if wanted not in table:
        raise UnknownSubjectError(
            f"no {domain} is called {wanted!r}; choose one of {', '.join(table)}"
        )
    return wanted


def _paint(
    image: Image.Image, subject: Person | str, scene: str, accessory: str, rng: Random
) -> tuple[str | None, str | None]:
    """Paints a person, or an object by its name; returns the expression and the clothes' colour."""
    side = image.width
    behind = Random(f"{rng.getrandbits(64)}")
    worn = Random(f"{rng.getrandbits(64)}")
    scenes.paint_scene(image, scene, behind)
    # A little out of focus: the figure stands in front of the place.
    image.paste(image.filter(ImageFilter.BoxBlur(side / 160)))
    pose = _pose(side, rng, is_object=isinstance(subject, str))
    if isinstance(subject, str):
        objects.paint_object(Brush(image, pose), subject, worn)
        return None, None
    mood = faces.draw_mood(rng)
    return mood.name, _paint_person(image, pose, subject, accessory, mood, worn)


def _pose(side: int, rng: Random, *, is_object: bool) -> Pose:
    unit = rng.uniform(0.2, 0.235) if is_object else rng.uniform(0.235, 0.275)
    middle = 0.48 if is_object else 0.47
    return Pose(
        x=side * (0.5 + rng.uniform(-0.06, 0.06)),
        y=side * (middle + rng.uniform(-0.04, 0.04)),
        unit=side * unit,
        tilt=math.radians(rng.uniform(-10, 10)),
    )


def _paint_person(
    image: Image.Image,
    pose: Pose,
    person: Person,
    accessory: str,
    mood: faces.Mood,
    rng: Random,
) -> str:
    figure = Brush(image, pose)
    # Shoulders stay level while the head tilts.
    torso = Brush(image, Pose(pose.x, pose.y, pose.unit, pose.tilt * 0.25))
    hair.paint_hair_behind(figure, person)
    colour = wear.paint_body(torso, person, rng)
    faces.paint_head(figure, person)
    faces.paint_features(figure, person, mood)
    hair.paint_hair_before(figure, person)
    wear.paint_accessory(torso if accessory in wear.ON_TORSO else figure, person, accessory, rng)
    return colour
