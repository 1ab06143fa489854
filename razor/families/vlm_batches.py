"""What goes through a vision-language model: pictures, questions on them, answers in tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Shown:
    """Pictures as the processor hands them over, each picture a row.

    Some models want the rows of all pictures one after another: those are in ``flat``.
    """

    tensors: Mapping[str, Tensor]
    flat: frozenset[str]
    count: int

    def take(self, rows: Sequence[int]) -> Shown:
        """Some of the pictures, in this order, also several times."""
        at = list(rows)
        return replace(self, tensors={k: v[at] for k, v in self.tensors.items()}, count=len(at))

    def inputs(self) -> dict[str, Tensor]:
        """What the network takes."""
        return {
            key: value.flatten(0, 1) if key in self.flat else value
            for key, value in self.tensors.items()
        }


@dataclass(frozen=True)
class Spoken:
    """Pictures, a question on each, and an answer to it, in tokens.

    Whatever has a place for each token of an answer counts from where that answer begins.
    """

    shown: Shown
    ids: Tensor  # (n, length): question, answer, padding
    starts: Tensor  # (n,): where the answer begins
    lengths: Tensor  # (n,): of the answer, in tokens

    def __len__(self) -> int:
        return self.shown.count

    def take(self, rows: Sequence[int]) -> Spoken:
        """Some of them, no wider than they need."""
        at = list(rows)
        starts, lengths = self.starts[at], self.lengths[at]
        return Spoken(
            self.shown.take(at), self.ids[at, : int((starts + lengths).max())], starts, lengths
        )

    def where(self) -> Tensor:  # (n, longest answer) bool
        """Which places of an answer hold a token."""
        places = torch.arange(int(self.lengths.max()), device=self.ids.device)
        return places[None] < self.lengths[:, None]

    def answers(self) -> Tensor:  # (n, longest answer)
        """The answers' tokens, padded."""
        places = torch.arange(int(self.lengths.max()), device=self.ids.device)
        at = (self.starts[:, None] + places[None]).clamp(max=self.ids.shape[1] - 1)
        return self.ids.gather(1, at)


@dataclass(frozen=True)
class RetainBatch:
    """What the frozen model answered to questions on retained pictures, and how surely."""

    spoken: Spoken
    likeliest: Tensor  # (n, longest answer, TOP): ids of its likeliest tokens
    scores: Tensor  # (n, longest answer, TOP): their logits, less the mean of them

    def take(self, rows: Sequence[int]) -> RetainBatch:
        """Some of them."""
        at = list(rows)
        spoken = self.spoken.take(at)
        longest = int(spoken.lengths.max())
        return RetainBatch(spoken, self.likeliest[at, :longest], self.scores[at, :longest])


@dataclass(frozen=True)
class ForgetBatch:
    """Pictures of the concept, and the direction in which its pictures lie."""

    shown: Shown
    concept: Tensor  # (d,), unit length, from the centre
    centre: Tensor  # (d,): where retained pictures lie on average


@dataclass(frozen=True)
class NamingBatch:
    """Questions whose answers named the concept in the frozen model, and where they begin to."""

    spoken: Spoken
    at: Tensor  # (n,): the place in the answer where the name begins

    def __len__(self) -> int:
        return len(self.spoken)

    def take(self, rows: Sequence[int]) -> NamingBatch:
        """Some of them."""
        at = list(rows)
        return NamingBatch(self.spoken.take(at), self.at[at])
