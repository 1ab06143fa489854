"""The concept that is to be forgotten: its kind, its name, its other names."""

from __future__ import annotations

import unicodedata
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field

from api_schemas.base import Input

MAX_NAME_CHARACTERS = 200
MAX_ALIASES = 20


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

    def names(self) -> tuple[str, ...]:
        """The name and every alias, in order, without repeats."""
        return tuple(dict.fromkeys((self.name, *self.aliases)))
