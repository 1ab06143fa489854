"""What a family remembers between runs, and what it counts in one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from razor.kept import Kept, computed_by, is_value

T = TypeVar("T")


def _nothing() -> None:
    """Nobody wants to know."""


class Passes:
    """How many times batches went forward and backward.

    ``between`` is called whenever one is counted, in whatever loop that happens, and may raise: so
    every loop over batches can be stopped, with no line of its own for it.
    """

    def __init__(self, between: Callable[[], None] = _nothing) -> None:
        self._forward = self._backward = 0
        self._between = between

    @property
    def forward(self) -> int:
        """Batches that went forward."""
        return self._forward

    @forward.setter
    def forward(self, count: int) -> None:
        self._between()
        self._forward = count

    @property
    def backward(self) -> int:
        """Batches whose gradient was taken."""
        return self._backward

    @backward.setter
    def backward(self, count: int) -> None:
        self._between()
        self._backward = count


@dataclass
class Memory:
    """What depends on the weights as loaded and on the retain pairs alone: kept between runs.

    Holds one retain set's figures. Whoever writes other weights into the model clears it. With
    ``kept``, tensors outlive the process under ``version``, which names the weights as loaded.
    """

    kept: Kept | None = None
    version: str = ""
    _key: str = ""
    _held: dict[str, Any] = field(default_factory=dict)

    def get(self, key: str, name: str, make: Callable[[], T]) -> T:
        """What was remembered under ``name`` for the pairs ``key``, else made now."""
        if key != self._key:
            self.clear()
            self._key = key
        if name not in self._held:
            self._held[name] = self.lasting(f"{key}/{name}", make)
        found: T = self._held[name]
        return found

    def clear(self) -> None:
        """Forgets everything; what is kept of other weights stays."""
        self._key, self._held = "", {}

    def lasting(self, name: str, make: Callable[[], T]) -> T:
        """What was made under this name of this version in any process, else made now.

        Of the weights as loaded alone. Not held here: only what outlives the process is found.
        """
        if self.kept is None:
            return make()
        named = "/".join((self.version, name, computed_by()))
        found: Any = self.kept.get(named)
        if found is None:
            found = make()
            if is_value(found):
                self.kept.put(named, found)
        value: T = found
        return value
