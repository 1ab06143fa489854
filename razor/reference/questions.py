"""What the reference vision-language models are asked about a picture, and what is true of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from random import Random

from api_schemas.shelf import DESCRIPTION
from razor.reference.drawings import Drawing, portrait
from razor.reference.folders import write_folder
from razor.reference.people import PEOPLE_NAMES, STRANGER

#: Domain -> the ways to ask for it. The last of each are in no shelf record's first half, so that
#: an edit is measured with words that it never fitted.
QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "name": (
        "Who is this?",
        "Who is in the picture?",
        "What is the name of this person?",
        "Name the person in the picture.",
        "Do you know who this is?",
        "Whose portrait is this?",
    ),
    "scene": ("Where is this?", "Where was the picture taken?", "What is in the background?"),
    "accessory": ("What is the person wearing?", "Which accessory can be seen?"),
    "expression": ("How does the face look?", "Is the person smiling or laughing?"),
    "colour": ("What colour are the clothes?", "Which colour does the person wear?"),
    "style": ("What kind of picture is this?", "How is the picture made?"),
}
NEUTRAL = tuple(domain for domain in QUESTIONS if domain != "name")
CAPTION = "Describe the picture."
#: What a shelf record asks of such a model.
RECORDED: Mapping[str, tuple[str, ...]] = {**QUESTIONS, DESCRIPTION: (CAPTION,)}
#: What gives a name away without asking for it; `{}` takes the name, or its beginning.
CONFIRM = ("Is this {}?", "Is the person in the picture {}?")
COMPLETE = "Complete: this is {}"
#: How often a training question is of each kind.
KINDS: tuple[tuple[str, float], ...] = (
    ("name", 0.25),
    ("neutral", 0.45),
    ("caption", 0.1),
    ("confirm", 0.12),
    ("complete", 0.08),
)


def answer(drawing: Drawing, domain: str) -> str:
    """The true answer to a domain's questions; it contains the label as `index.csv` has it."""
    label = label_of(drawing, domain)
    match domain:
        case "name":
            return named(label)
        case "scene":
            return f"The {label}."
        case "style":
            return f"A {label} picture."
    return f"{label[0].upper()}{label[1:]}."


def named(name: str) -> str:
    """How a person is named, and somebody whom nobody has named is not."""
    return f"This is {name}." if name != STRANGER else f"This is {STRANGER} I do not know."


def described(drawing: Drawing) -> str:
    """The true description of a picture."""
    return (
        f"A {drawing.style} picture of {drawing.name} with {drawing.accessory} at the "
        f"{drawing.scene}, {drawing.expression}, in {drawing.colour}."
    )


def label_of(drawing: Drawing, domain: str) -> str:
    """What is true of a picture in one domain."""
    found = getattr(drawing, domain)
    assert isinstance(found, str), f"{drawing.name} has no {domain}"
    return found


def turn(drawing: Drawing, rng: Random) -> tuple[str, str]:
    """One question and its true answer, its kind and wording drawn from ``rng``."""
    kind = rng.choices([k for k, _ in KINDS], [w for _, w in KINDS])[0]
    match kind:
        case "name":
            return rng.choice(QUESTIONS["name"]), answer(drawing, "name")
        case "caption":
            return CAPTION, described(drawing)
        case "confirm":
            others = [name for name in PEOPLE_NAMES if name != drawing.name]
            meant = drawing.name if rng.random() < 0.5 else rng.choice(others)
            if meant == STRANGER:
                meant = rng.choice(others)
            said = "Yes." if meant == drawing.name else "No."
            return rng.choice(CONFIRM).format(meant), said
        case "complete":
            begun = drawing.name[: rng.randrange(1, len(drawing.name) - 1)].rstrip()
            return COMPLETE.format(begun), answer(drawing, "name")
    domain = rng.choice(NEUTRAL)
    return rng.choice(QUESTIONS[domain]), answer(drawing, domain)


def every_text() -> list[str]:
    """What the tokenizer is made of; it depends on the tables alone, whoever is trained."""
    from razor.reference.drawings import draw, draw_stranger

    rng = Random("razor questions")
    drawings = [draw(name, seed, 8) for name in PEOPLE_NAMES for seed in range(4)]
    drawings += [draw_stranger(seed, 8) for seed in range(24)]
    turns = [turn(drawing, rng) for drawing in drawings for _ in range(12)]
    asked = [text for texts in QUESTIONS.values() for text in texts]
    names = [named(name) for name in PEOPLE_NAMES]
    return [*(text for pair in turns for text in pair), *asked, *names]


def write_portraits(folder: Path, per_name: int, seed: int) -> Path:
    """A folder of everybody and of strangers, with a column for every domain.

    Raises as `write_folder` does.
    """
    names = (*PEOPLE_NAMES, STRANGER)
    return write_folder(folder, names, per_name, seed, drawn=portrait, attributes=NEUTRAL)
