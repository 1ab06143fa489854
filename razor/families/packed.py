"""Texts through a causal tower, with each beginning that several of them share computed once.

A text tower looks backward only: what a token becomes depends on what stands before it. Names in
one template begin alike, so all that treats tokens one by one (norms, projections, feed-forward)
runs over the distinct beginnings, in one row; only for attention are they put back into texts.
Past a text's last token nothing is computed, and in the last layer nothing but that token.
Features are the library's own up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Pack:
    """Texts as their distinct beginnings, each standing for its last token."""

    tokens: Tensor  # (n,)
    positions: Tensor  # (n,)
    places: Tensor  # (texts * length,) the beginning that ends there; past a text's end any
    first: Tensor  # (n,) where among the places each beginning stands first
    read: Tensor  # (texts,) the beginning that is the whole text
    seen: Tensor  # (texts, 1, 1, length) bool: the places that are the text's own

    @property
    def shape(self) -> tuple[int, int]:
        """Texts, and tokens of the longest."""
        return self.seen.shape[0], self.seen.shape[-1]


def pack(
    tokens: Tensor,  # (texts, at least length)
    last: Tensor,  # (texts,) the token that each text is read at
    *,
    shared: bool = True,
) -> Pack:
    """The texts' beginnings in the order of their first appearance.

    Without ``shared`` every text has its own, whatever others begin with.
    """
    length = int(last.max()) + 1
    known: dict[tuple[int, int, int], int] = {}  # (text unless shared, beginning before, token)
    found: list[tuple[int, int, int]] = []  # token, position, place
    places: list[int] = []
    read: list[int] = []
    ends = last.tolist()
    for text, row in enumerate(tokens[:, :length].tolist()):
        now = -1
        for position, token in enumerate(row[: ends[text] + 1]):
            named = (-1 if shared else text, now, token)
            if named not in known:
                known[named] = len(found)
                found.append((token, position, len(places)))
            now = known[named]
            places.append(now)
        places += [now] * (length - 1 - ends[text])
        read.append(now)
    device = tokens.device
    token, position, first = torch.tensor(found, device=device).T.contiguous()
    return Pack(
        token,
        position,
        places=torch.tensor(places, device=device),
        first=first,
        read=torch.tensor(read, device=device),
        seen=(torch.arange(length, device=device) <= last[:, None])[:, None, None],
    )


@dataclass(frozen=True)
class Parts:
    """What a transformer block does, as it treats tokens one by one; all over (..., width)."""

    heads: int
    norm: Callable[[Tensor], Tensor]  # before attention
    query: Callable[[Tensor], Tensor]
    key_value: Callable[[Tensor], tuple[Tensor, Tensor]]
    rest: Callable[[Tensor, Tensor], Tensor]  # what entered, what was attended -> what leaves


class Step(nn.Module):
    """A block over packed texts; a module, so that its input can be seen and given."""

    def __init__(self, block: nn.Module, parts: Parts) -> None:
        super().__init__()
        self.block = block
        self._parts = parts

    def forward(
        self,
        hidden: Tensor,  # (n, width)
        pack: Pack,
        *,
        read: bool = False,
    ) -> Tensor:  # (n, width)
        """``read``: only what the texts are read at leaves, (texts, width)."""
        parts = self._parts
        normed = parts.norm(hidden)
        key, value = (_heads(x, pack, parts.heads) for x in parts.key_value(normed))
        texts, length = pack.shape
        if read:
            normed = normed.index_select(0, pack.read)
            asking = parts.query(normed).view(texts, 1, parts.heads, -1).transpose(1, 2)
            mixed = F.scaled_dot_product_attention(asking, key, value, attn_mask=pack.seen)
            return parts.rest(hidden.index_select(0, pack.read), mixed.flatten(1))
        asking = _heads(parts.query(normed), pack, parts.heads)
        mixed = F.scaled_dot_product_attention(asking, key, value, is_causal=True)
        by_place = mixed.transpose(1, 2).reshape(texts * length, -1)
        return parts.rest(hidden, by_place.index_select(0, pack.first))


def _heads(x: Tensor, pack: Pack, heads: int) -> Tensor:  # (n, width) -> (texts, heads, length, -1)
    texts, length = pack.shape
    return x.index_select(0, pack.places).view(texts, length, heads, -1).transpose(1, 2)


@dataclass
class Packing:
    """Whether texts share their beginnings; ``on`` is for measuring what that saves."""

    on: bool = True


@dataclass(frozen=True)
class TextTower:
    """Encodes token rows, (texts, context) -> raw features (texts, d)."""

    steps: tuple[Step, ...]
    last: Callable[[Tensor], Tensor]  # (texts, context) -> (texts,) the token to read at
    embed: Callable[[Tensor, Tensor], Tensor]  # tokens and positions (n,) -> (n, width)
    features: Callable[[Tensor], Tensor]  # (texts, width) -> (texts, d)
    packing: Packing = field(default_factory=Packing)

    def __call__(self, tokens: Tensor) -> Tensor:
        """The features of the texts."""
        packed = pack(tokens, self.last(tokens), shared=self.packing.on)
        hidden = self.embed(packed.tokens, packed.positions)
        for step in self.steps[:-1]:
            hidden = step(hidden, packed)
        return self.features(self.steps[-1](hidden, packed, read=True))
