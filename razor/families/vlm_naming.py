"""Where a vision-language model's own answers come to a concept's name."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from razor import questions
from razor.families.vlm import Vlm
from razor.families.vlm_batches import NamingBatch, Shown


def named(family: Vlm, shown: Shown, asked: Sequence[str], names: Sequence[str]) -> NamingBatch:
    """The answers of the model as it stands that name the concept; all of them where none does."""
    said = family.answer(shown, asked)
    spoken = family.speak(shown, asked, said)
    at = [begins(family, tokens, names) for tokens in said]
    rows = [k for k, place in enumerate(at) if place is not None]
    if not rows:
        nowhere = torch.zeros(len(said), dtype=torch.long, device=family.device)
        return NamingBatch(spoken, nowhere)
    places = torch.tensor([at[k] for k in rows], device=family.device)
    return NamingBatch(spoken.take(rows), places)


def names_any(text: str, names: Sequence[str]) -> bool:
    """Whether an answer holds one of the names."""
    return any(questions.holds(text, name) for name in names)


def begins(family: Vlm, tokens: list[int], names: Sequence[str]) -> int | None:
    """The token with which the name begins, or None where the answer does not hold it."""
    if not names_any(family.said(tokens), names):
        return None
    # The last place after which the rest alone still holds the name.
    return max(k for k in range(len(tokens)) if names_any(family.said(tokens[k:]), names))
