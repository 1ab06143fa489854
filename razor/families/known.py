"""Features of rows that were embedded before, for as long as their tower stands as it did."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class _Pictures:
    pixels: weakref.ref[Tensor]
    written: int  # torch's count of writes into the pixels
    state: int
    features: Tensor


@dataclass
class KnownFeatures:
    """What a model made of whole sets of pictures and of texts.

    A set of pictures is known by being the same tensor: it is not held, and what was made of it is
    forgotten with it. Nobody may write into the features. ``on`` is for measuring, and for tests.
    """

    on: bool = True
    _pictures: dict[int, _Pictures] = field(default_factory=dict)
    _texts: dict[tuple[str, ...], Tensor] = field(default_factory=dict)
    _texts_state: int | None = None

    def pictures(self, pixels: Tensor, state: int, make: Callable[[], Tensor]) -> Tensor:
        """The features of these pictures from a tower in this state."""
        found = self._pictures.get(id(pixels))
        same = (
            found is not None
            and found.pixels() is pixels
            and (found.written, found.state) == (pixels._version, state)
        )
        if self.on and found is not None and same:
            return found.features
        features = make()
        self._pictures = {k: v for k, v in self._pictures.items() if v.pixels() is not None}
        known = _Pictures(weakref.ref(pixels), pixels._version, state, features)
        self._pictures[id(pixels)] = known
        return features

    def texts(self, texts: Sequence[str], state: int, make: Callable[[], Tensor]) -> Tensor:
        """The features of these texts, in this order, from a tower in this state."""
        if self._texts_state != state or not self.on:
            self._texts, self._texts_state = {}, state
        key = tuple(texts)
        if key not in self._texts:
            self._texts[key] = make()
        return self._texts[key]
