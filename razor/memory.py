"""What a family remembers between runs, and what it counts in one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass
class Passes:
    """How many times batches went forward and backward."""

    forward: int = 0
    backward: int = 0


@dataclass
class Memory:
    """What depends on the weights as loaded and on the retain pairs alone: kept between runs.

    Holds one retain set's figures. Whoever writes other weights into the model clears it.
    """

    _key: str = ""
    _held: dict[str, Any] = field(default_factory=dict)

    def get(self, key: str, name: str, make: Callable[[], T]) -> T:
        """What was remembered under ``name`` for the pairs ``key``, else made now."""
        if key != self._key:
            self.clear()
            self._key = key
        if name not in self._held:
            self._held[name] = make()
        found: T = self._held[name]
        return found

    def clear(self) -> None:
        """Forgets everything."""
        self._key, self._held = "", {}
