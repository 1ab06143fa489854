"""Rows that go through a model, counted where they go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from razor.families.clip import Clip

#: From what a module is called with: of which kind the rows are, and how many.
Seen = Callable[[tuple[Any, ...], dict[str, Any]], tuple[str, int]]


class Encoded:
    """Counts pictures and texts through a CLIP model, with and without a gradient.

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
            self.counts[_kind(tower)] += len(rows)
            return encode(rows)

        return counted


class Called:
    """Counts what is given to some modules, whenever they really compute.

    Of layers that compute again on the way back the way forth counts alone: hang this on modules
    that hold them.
    """

    def __init__(self, modules: Mapping[nn.Module, Seen]) -> None:
        self.counts: Counter[str] = Counter()
        for module, seen in modules.items():
            module.register_forward_pre_hook(self._counting(seen), with_kwargs=True)

    def taken(self) -> Counter[str]:
        """What was counted since the last time this was asked."""
        found, self.counts = self.counts, Counter()
        return found

    def _counting(self, seen: Seen) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            what, rows = seen(args, kwargs)
            self.counts[_kind(what)] += rows

        return note


def rows(what: str, key: str = "") -> Seen:
    """The rows of the first tensor that a module is given, or of the one with this name."""

    def seen(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, int]:
        return what, len(args[0] if args else kwargs[key])

    return seen


def _kind(what: str) -> str:
    return f"{what} {'gradient' if torch.is_grad_enabled() else 'forward'}"
