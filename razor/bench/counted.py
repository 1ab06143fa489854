"""Rows that go through a CLIP model, counted where they go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from razor.families.clip import Clip


class Rows:
    """Counts pictures and texts through a model, with and without a gradient.

    Texts count once for each column that is computed, for their lengths differ.
    """

    def __init__(self, family: Clip) -> None:
        self.counts: Counter[str] = Counter()
        network = family.network
        family.network = replace(
            network,
            encode_images=self._counting("image", network.encode_images),
            encode_tokens=self._counting("text", network.encode_tokens),
        )

    def taken(self) -> Counter[str]:
        """What was counted since the last time this was asked."""
        found, self.counts = self.counts, Counter()
        return found

    def _counting(
        self, tower: str, encode: Callable[[Tensor], Tensor]
    ) -> Callable[[Tensor], Tensor]:
        def counted(rows: Tensor) -> Tensor:
            kind = "gradient" if torch.is_grad_enabled() else "forward"
            self.counts[f"{tower} {kind}"] += len(rows)
            return encode(rows)

        return counted
