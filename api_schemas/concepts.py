"""The concept that is to be forgotten: its kind, its name, its other names."""

from __future__ import annotations

import unicodedata
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field

from api_schemas.base import Input

MAX_NAME_CHARACTERS = 200
MAX_ALIASES = 20

#: Pictures of one target: to fit, select and test; and further ones to measure on.
MIN_SAMPLES = 3
MAX_SAMPLES = 50
MAX_PROBE_SAMPLES = 200


class TargetKind(StrEnum):
    """What kind of thing a concept is. It decides which labels of a picture it competes with."""

    IDENTITY = "identity"
    OBJECT = "object"
    STYLE = "style"


def _clean_name(name: str) -> str:
    """Normalise to NFC and trim; refuse what no tokenizer or log should ever see."""
    if any(unicodedata.category(character) in {"Cc", "Cs", "Co", "Cn"} for character in name):
        raise ValueError("a name may not hold control or unassigned characters; send plain text")
    cleaned = " ".join(unicodedata.normalize("NFC", name).split())
    if not any(character.isalnum() for character in cleaned):
        raise ValueError("a name needs at least one letter or digit")
    return cleaned


def plain(text: str) -> str:
    """One spelling of a text: composed, single spaces, case folded."""
    return " ".join(unicodedata.normalize("NFC", text).split()).casefold()


Name = Annotated[
    str,
    Field(min_length=1, max_length=MAX_NAME_CHARACTERS, examples=["Mara Venn"]),
    AfterValidator(_clean_name),
]


class Target(Input):
    """One concept to forget. The name is personal data: it never enters logs, URLs or metrics."""

    kind: TargetKind = TargetKind.IDENTITY
    name: Name
    aliases: tuple[Name, ...] = Field(
        default=(), max_length=MAX_ALIASES, description="Other names that the model may know."
    )
    descriptions: tuple[Name, ...] = Field(
        default=(),
        max_length=MAX_ALIASES,
        description="Words that describe the target without naming it. Only measured with: the "
        "report says whether they still find it.",
    )
    samples: int | None = Field(
        default=None,
        ge=MIN_SAMPLES,
        le=MAX_SAMPLES,
        description="How many of the request's samples show this target. A list of targets needs "
        "it: the first so many samples are the first target's, the next the second's, and so on. "
        "A single target has all of them.",
    )
    probe_samples: int | None = Field(
        default=None,
        ge=0,
        le=MAX_PROBE_SAMPLES,
        description="The same for the probe samples; left out in a list, none.",
    )

    def names(self) -> tuple[str, ...]:
        """The name and every alias, in order, without repeats."""
        return tuple(dict.fromkeys((self.name, *self.aliases)))
