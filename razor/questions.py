"""What a vision-language model is asked in a run, and who may ask it with which words.

Words have roles as pictures have: what an edit fits or selects on is never all that it is measured
with. Of each domain's questions the last third is for the test alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch

from razor.material import Labelled, Material


class Role(StrEnum):
    """What for a question is asked."""

    FIT = "fit"
    SELECT = "select"
    TEST = "test"


@dataclass(frozen=True)
class Asked:
    """A question on a picture, and the label that a right answer holds."""

    row: int
    domain: str
    text: str
    label: str


def of(texts: Sequence[str], role: Role) -> tuple[str, ...]:
    """The questions of a role: fit and select share the first two thirds, the test asks all."""
    if role is Role.TEST:
        return tuple(texts)
    return tuple(texts[: max(1, len(texts) - len(texts) // 3)])


def about(
    rows: Labelled, material: Material, role: Role, count: int, rng: torch.Generator
) -> list[Asked]:
    """At most ``count`` questions on pictures in turn, none twice, half of them for the own domain.

    The other half goes through the other domains; a picture without a label there is left out.
    """
    others = [d for d in material.templates if d != material.domain and d in rows.labels]
    order = torch.randperm(len(rows), generator=rng).tolist()
    naming = count - count // 2 if others else count
    # Each lap over the pictures moves on by one way to ask, and by one domain.
    drawn = [(turn, [material.domain]) for turn in range(naming)]
    drawn += [(turn, others) for turn in range(count - naming)]
    found: list[Asked] = []
    for turn, domains in drawn:
        row, lap = order[turn % len(rows)], turn // len(rows)
        domain = domains[(turn + lap) % len(domains)]
        texts = of(material.templates[domain], role)
        text = texts[(turn // len(domains) + lap) % len(texts)]
        if label := rows.labels[domain][row]:
            found.append(Asked(row, domain, text, label))
    return list(dict.fromkeys(found))


def holds(answer: str, label: str) -> bool:
    """Whether an answer holds a label, whatever its case and spacing, as whole words."""
    said, wanted = (f" {plain(text)} " for text in (answer, label))
    return wanted in said


def plain(text: str) -> str:
    """Lower case, words alone, one space between."""
    kept = (letter if letter.isalnum() else " " for letter in text.casefold())
    return " ".join("".join(kept).split())
