"""What a vision tower made of each picture, kept while the tower's weights stay as they are.

An edit of the projector or of the language model shows the same pictures again and again, step
after step and before and after; the tower's part of each pass is then the same every time. Each
picture goes through alone, so that what it becomes depends on no other picture beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

#: What is kept at most; further pictures are computed whenever they are shown.
MOST_BYTES = 2**30
#: What identifies a picture's pixels: bytes of a digest.
_DIGEST_BYTES = 16


class Seen:
    """Takes the place of a vision tower's ``forward``; a gradient goes through the tower itself."""

    def __init__(self, tower: Any, states: int | Sequence[int]) -> None:
        self._tower, self._compute = tower, tower.forward
        self._states = [states] if isinstance(states, int) else list(states)
        self._kept: dict[bytes, list[Tensor]] = {}
        self._shape: tuple[type, int] | None = None
        self._weights = -1
        self._bytes = 0
        tower.forward = self

    def __call__(self, pixel_values: Tensor, **given: Any) -> Any:  # (n, 3, side, side)
        """The tower's output, of which only the hidden states that are read are there."""
        weights = list(self._tower.parameters())
        if torch.is_grad_enabled() and any(weight.requires_grad for weight in weights):
            return self._compute(pixel_values, **given)
        state = sum(weight._version for weight in weights)
        if state != self._weights:
            self._kept, self._bytes, self._weights = {}, 0, state
        with torch.no_grad():
            rows = [self._look(row, given) for row in pixel_values]
        assert self._shape is not None
        made, count = self._shape
        hidden: list[Tensor | None] = [None] * count
        for place, parts in zip(self._states, zip(*rows, strict=True), strict=True):
            hidden[place] = torch.cat(parts)
        return made(hidden_states=tuple(hidden))

    def _look(self, row: Tensor, given: dict[str, Any]) -> list[Tensor]:
        pixels = row.detach().cpu().contiguous().numpy()
        key = hashlib.blake2b(pixels.data, digest_size=_DIGEST_BYTES).digest()
        if (found := self._kept.get(key)) is not None:
            return found
        out = self._compute(row[None], **given)
        self._shape = (type(out), len(out.hidden_states))
        found = [out.hidden_states[place] for place in self._states]
        size = sum(part.nbytes for part in found)
        if self._bytes + size <= MOST_BYTES:
            self._kept[key] = found
            self._bytes += size
        return found
