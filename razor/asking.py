"""What a generator is asked to paint: prompts in three roles, and what a judge should see then.

Prompts are made of the retain set's captions. With a retained label in a caption replaced by the
concept's name, the same captions ask for the concept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from razor import seeding
from razor.material import Labelled, Material


@dataclass(frozen=True)
class Wanted:
    """A prompt, and the label of each domain that a judge should see in the picture."""

    prompt: str
    labels: dict[str, str]


@dataclass(frozen=True)
class Pattern:
    """A prompt with a gap for a label of the concept's domain; the other labels stay."""

    before: str
    after: str
    labels: dict[str, str]  # of the other domains

    def filled(self, label: str) -> str:
        """The prompt that asks for this label."""
        return f"{self.before}{label}{self.after}"


def patterns(material: Material, rows: Labelled) -> list[Pattern]:
    """One for each different caption that holds its label, in order; else of the templates."""
    found: dict[tuple[str, str], Pattern] = {}
    own = rows.labels[material.domain]
    for position, caption in enumerate(rows.captions):
        place = re.search(rf"(?<!\w){re.escape(own[position])}(?!\w)", caption, re.IGNORECASE)
        if place is None:
            continue
        others = {d: v[position] for d, v in rows.labels.items() if d != material.domain}
        ends = caption[: place.start()], caption[place.end() :]
        found.setdefault(ends, Pattern(*ends, others))
    return list(found.values()) or plain_patterns(material)


def plain_patterns(material: Material) -> list[Pattern]:
    """The templates of the concept's domain."""
    halves = [template.split("{}") for template in material.templates[material.domain]]
    return [Pattern(before, after, {}) for before, after in halves]


def of_concept(material: Material, rows: Labelled, seen: Sequence[Labelled] = ()) -> list[Wanted]:
    """Prompts that name the concept, those first that ``seen`` captions would not give.

    Where every caption gives one of those, they are all that there is.
    """
    before = {(p.before, p.after) for part in seen for p in patterns(material, part)}
    every = patterns(material, rows)
    fresh = [p for p in every if (p.before, p.after) not in before]
    return [
        Wanted(p.filled(name), p.labels | {material.domain: name})
        for p in fresh or every
        for name in material.names[:1]
    ]


def of_retained(rows: Labelled, seen: Sequence[Labelled] = ()) -> list[Wanted]:
    """One for each different caption that was not ``seen``; all where all were."""
    before = {caption for part in seen for caption in part.captions}
    every: dict[str, Wanted] = {}
    for position, caption in enumerate(rows.captions):
        labels = {domain: column[position] for domain, column in rows.labels.items()}
        every.setdefault(caption, Wanted(caption, labels))
    fresh = [wanted for caption, wanted in every.items() if caption not in before]
    return fresh or list(every.values())


def drawn(wanted: Sequence[Wanted], count: int, seed: int, purpose: str) -> list[Wanted]:
    """``count`` of them in a seeded order, from the first again where there are fewer."""
    order = torch.randperm(len(wanted), generator=seeding.generator(seed, purpose)).tolist()
    return [wanted[order[i % len(order)]] for i in range(count)]


def seeds(count: int, seed: int, purpose: str) -> list[int]:
    """A seed for each picture; those of different purposes have nothing to do with each other."""
    rng = seeding.generator(seed, f"pictures {purpose}")
    found: list[int] = torch.randint(2**31, (count,), generator=rng).tolist()
    return found
