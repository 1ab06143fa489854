"""Who and what the reference pictures show: invented people, objects and their surroundings.

Nobody here exists. The people are drawn from the features below and from nothing else, so that a
demonstration of forgetting needs no real person's face. Every table is literal: a subject's
identity is exactly its row.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from random import Random
from typing import Literal, get_args

from api_schemas.shelf import UNNAMED
from razor.reference.errors import UnknownSubjectError

FaceShape = Literal["round", "oval", "square", "long", "heart"]
SkinTone = Literal["porcelain", "fair", "tan", "olive", "brown", "deep"]
HairStyle = Literal[
    "afro",
    "bald",
    "bob",
    "braid",
    "bun",
    "crop",
    "curly",
    "fringe",
    "long",
    "mohawk",
    "pigtails",
    "receding",
    "sidepart",
    "spiky",
    "wavy",
]
HairColour = Literal[
    "black",
    "blond",
    "blue",
    "brown",
    "chestnut",
    "ginger",
    "grey",
    "pink",
    "teal",
    "violet",
    "white",
]
EyeColour = Literal["brown", "blue", "green", "grey", "amber"]
Brows = Literal["thin", "thick", "arched"]
Nose = Literal["small", "wide", "long", "round"]
Mouth = Literal["thin", "full", "wide", "small"]
Beard = Literal["none", "stubble", "moustache", "goatee", "full"]
Mark = Literal["none", "freckles", "mole", "scar", "rosy"]

FEATURES = (FaceShape, SkinTone, HairStyle, HairColour, EyeColour, Brows, Nose, Mouth, Beard, Mark)


@dataclass(frozen=True)
class Person:
    """One invented person: everything that stays the same from picture to picture.

    `looks` describes the person in words without the name; no two people share it.
    """

    name: str
    looks: str
    face: FaceShape
    skin: SkinTone
    hair: HairStyle
    hair_colour: HairColour
    eyes: EyeColour
    brows: Brows
    nose: Nose
    mouth: Mouth
    beard: Beard
    mark: Mark


# fmt: off
PEOPLE: tuple[Person, ...] = (
    Person("Mara Venn", "long ginger hair and freckles",
           "heart", "fair", "long", "ginger", "green", "thin", "small", "full", "none", "freckles"),
    Person("Oskar Brill", "short blond hair and a blond beard",
           "square", "fair", "crop", "blond", "blue", "thick", "wide", "thin", "full", "none"),
    Person("Tilda Quist", "a black bob and a mole",
           "round", "porcelain", "bob", "black", "grey", "thin", "small", "small", "none", "mole"),
    Person("Juno Farrow", "a big black afro",
           "oval", "deep", "afro", "black", "brown", "arched", "wide", "full", "none", "none"),
    Person("Edric Sable", "parted black hair and a goatee",
           "long", "olive", "sidepart", "black", "brown", "thick", "long", "thin", "goatee",
           "none"),
    Person("Nell Amberly", "blond pigtails and rosy cheeks",
           "round", "fair", "pigtails", "blond", "blue", "thin", "small", "wide", "none", "rosy"),
    Person("Bram Holloway", "a bald head and a brown beard",
           "square", "tan", "bald", "brown", "brown", "thick", "wide", "wide", "full", "none"),
    Person("Sunita Solane", "a long black braid",
           "oval", "brown", "braid", "black", "amber", "arched", "small", "wide", "none", "mole"),
    Person("Kofi Dunmore", "short black hair and a moustache",
           "round", "deep", "crop", "black", "brown", "thick", "wide", "wide", "moustache",
           "none"),
    Person("Lena Marsk", "long white hair",
           "long", "porcelain", "long", "white", "blue", "thin", "long", "thin", "none", "none"),
    Person("Hugo Tamsin", "spiky brown hair and a scar",
           "square", "tan", "spiky", "brown", "green", "thick", "round", "wide", "stubble",
           "scar"),
    Person("Ines Calloway", "brown hair in a bun",
           "oval", "olive", "bun", "brown", "brown", "arched", "small", "full", "none", "none"),
    Person("Rufus Pell", "curly ginger hair and freckles",
           "round", "fair", "curly", "ginger", "blue", "thick", "round", "wide", "none",
           "freckles"),
    Person("Yuki Tarrant", "a pink bob",
           "heart", "porcelain", "bob", "pink", "brown", "thin", "small", "small", "none", "none"),
    Person("Sami Orvane", "curly black hair and a black beard",
           "oval", "brown", "curly", "black", "brown", "thick", "long", "wide", "full", "none"),
    Person("Greta Lumley", "grey hair in a bun and rosy cheeks",
           "round", "fair", "bun", "grey", "grey", "thin", "round", "thin", "none", "rosy"),
    Person("Dario Finch", "wavy chestnut hair and a moustache",
           "long", "olive", "wavy", "chestnut", "green", "thick", "long", "thin", "moustache",
           "none"),
    Person("Amara Keld", "a blue mohawk",
           "heart", "deep", "mohawk", "blue", "brown", "arched", "wide", "full", "none", "none"),
    Person("Otis Wrenfield", "thin white hair and a white moustache",
           "square", "brown", "receding", "white", "brown", "thick", "wide", "thin", "moustache",
           "none"),
    Person("Zora Plum", "spiky violet hair",
           "oval", "tan", "spiky", "violet", "amber", "arched", "small", "full", "none", "mole"),
    Person("Felix Moorcroft", "thin ginger hair and a goatee",
           "long", "fair", "receding", "ginger", "blue", "thin", "long", "small", "goatee",
           "none"),
    Person("Wanda Hesper", "wavy teal hair and a scar",
           "square", "tan", "wavy", "teal", "green", "thick", "wide", "full", "none", "scar"),
    Person("Elsie Thorne", "a ginger fringe and rosy cheeks",
           "round", "fair", "fringe", "ginger", "blue", "arched", "small", "wide", "none", "rosy"),
    Person("Jabari Nolan", "short black hair and a goatee",
           "long", "deep", "crop", "black", "amber", "arched", "long", "full", "goatee", "none"),
)
# fmt: on

# Pairs drawn alike on purpose: forgetting one of them is where harm to a neighbour shows first.
LOOK_ALIKES: tuple[tuple[str, str], ...] = (
    ("Mara Venn", "Elsie Thorne"),
    ("Kofi Dunmore", "Jabari Nolan"),
    ("Tilda Quist", "Yuki Tarrant"),
)

#: What stands in the place of a name that nobody has told.
STRANGER = UNNAMED

OBJECTS: tuple[str, ...] = ("a teapot", "a bicycle", "a guitar", "a cactus", "a sailboat")

SCENES: tuple[str, ...] = ("beach", "forest", "city", "library", "mountains", "theatre")
ACCESSORIES: tuple[str, ...] = (
    "no accessory",
    "a hat",
    "glasses",
    "a scarf",
    "headphones",
    "a bow tie",
)
STYLES: tuple[str, ...] = ("photographic", "pencil", "watercolour", "poster")

PEOPLE_NAMES: tuple[str, ...] = tuple(person.name for person in PEOPLE)
NAMES: tuple[str, ...] = PEOPLE_NAMES + OBJECTS


def person_named(name: str) -> Person:
    """The person of exactly this name.

    Raises `UnknownSubjectError` for any other string.
    """
    for person in PEOPLE:
        if person.name == name:
            return person
    raise UnknownSubjectError(
        f"no drawn person is called {name!r}; the names are in razor.reference.people.NAMES"
    )


def stranger(seed: int) -> Person:
    """Somebody without a name, drawn from the tables of features; like nobody in `PEOPLE`."""
    rng = Random(f"razor stranger|{seed}")
    known = {_features(person) for person in PEOPLE}
    while True:
        drawn = Person(STRANGER, STRANGER, *(rng.choice(get_args(kind)) for kind in FEATURES))
        # Close to somebody would be a picture with two right answers.
        if all(sum(a != b for a, b in zip(_features(drawn), x, strict=True)) >= 5 for x in known):
            return drawn


def _features(person: Person) -> tuple[str, ...]:
    return tuple(getattr(person, field.name) for field in fields(person)[2:])
