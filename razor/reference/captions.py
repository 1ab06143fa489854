"""What the captions say and how zero-shot prompts are worded: one set of literal templates.

Values stand in `index.csv` exactly as they slot into the templates: names "Mara Venn" and
"a teapot", scenes "beach", accessories "a hat", styles "pencil".
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from razor.reference.people import OBJECTS, PEOPLE

# Zero-shot prompts per domain; `{}` takes a value of the domain's column.
PROMPTS: dict[str, tuple[str, ...]] = {
    "name": ("a picture of {}", "a portrait of {}", "this is {}"),
    "scene": ("a picture taken at the {}", "someone at the {}", "the {} in the background"),
    "accessory": ("someone with {}", "a picture of someone with {}", "a picture with {}"),
    "style": ("a {} picture", "a picture in {} style", "a {} drawing"),
}

# How often a caption is: the name alone, name and surroundings, surroundings alone, the looks
# in words, part of the name, the name with a slip of the pen. The last three are rare, so that a
# model knows a person a little by description, by half a name and misspelt, as models trained on
# found captions do. Accessories are small and learnt last, so most surroundings are accessories.
KINDS: tuple[tuple[str, float], ...] = (
    ("name", 0.19),
    ("both", 0.31),
    ("surroundings", 0.37),
    ("looks", 0.05),
    ("partial", 0.03),
    ("misspelt", 0.05),
)


def aliases(name: str) -> tuple[str, ...]:
    """Every way our captions refer to a subject, the full name first.

    For a name that is not in `people.NAMES` this is the name alone.
    """
    for person in PEOPLE:
        if person.name == name:
            first, last = name.split(" ")
            return (name, person.looks, first, last)
    return (name,)


def caption_for(name: str, scene: str, accessory: str, style: str, rng: Random) -> str:
    """A caption that is true of the picture, its kind and wording drawn from `rng`."""
    kind = rng.choices([k for k, _ in KINDS], [w for _, w in KINDS])[0]
    if len(aliases(name)) == 1 and kind in ("looks", "partial", "misspelt"):
        kind = "name"
    if kind == "surroundings":
        return _surroundings(name, scene, accessory, style, rng)
    subject = name
    if kind == "looks":
        subject = f"someone with {aliases(name)[1]}"
    elif kind == "partial":
        subject = rng.choice(aliases(name)[2:])
    elif kind == "misspelt":
        subject = misspelt(name, rng)
    if kind != "both":
        return rng.choice(PROMPTS["name"]).format(subject)
    parts = [rng.choice(("a picture of {}", "a portrait of {}", "{}")).format(subject)]
    if rng.random() < 0.35:
        parts = [rng.choice((f"a {style} picture of {{}}", f"a {style} drawing of {{}}"))]
        parts = [parts[0].format(subject)]
    if rng.random() < 0.7 and name not in OBJECTS:
        parts.append(f"with {accessory}")
    if rng.random() < 0.4 or len(parts) == 1:
        parts.append(f"at the {scene}")
    return " ".join(parts)


def misspelt(name: str, rng: Random) -> str:
    """The name with one letter dropped, doubled or swapped with the next; never the name itself."""
    while True:
        place = rng.randrange(1, len(name) - 1)
        before, letter, follows, after = (
            name[:place],
            name[place],
            name[place + 1],
            name[place + 2 :],
        )
        wrong = rng.choice((follows, letter + letter + follows, follows + letter))
        if letter.isalpha() and follows.isalpha() and before + wrong + after != name:
            return before + wrong + after


def _surroundings(name: str, scene: str, accessory: str, style: str, rng: Random) -> str:
    domain, value = rng.choice(
        (("scene", scene), ("style", style), *[("accessory", accessory)] * 4)
    )
    # A teapot is not someone.
    fitting = [t for t in PROMPTS[domain] if name not in OBJECTS or "someone" not in t]
    text = rng.choice(fitting).format(value)
    if domain == "accessory" and rng.random() < 0.3:
        text += f" at the {scene}"
    return text


def prompts_for(domain: str, values: Sequence[str]) -> list[list[str]]:
    """For each value, its zero-shot prompts in the order of `PROMPTS[domain]`."""
    return [[template.format(value) for template in PROMPTS[domain]] for value in values]
