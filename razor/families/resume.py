"""Forward passes that begin where the weights begin to move.

While one layer is tried at several step lengths, everything below it computes the same again and
again. What enters that layer is kept from the first pass over some rows; later passes over the same
rows run from there on. The kept tensor is what the layer would have been given, so results are the
same to the bit; that nothing below was written since is seen from the parameters, not promised.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from torch import Tensor, nn

#: Kept at most, in bytes: this, or this share of the model's weights where that is more.
LEAST_BYTES: Final = 256 * 2**20
SHARE: Final = 0.25


@dataclass(frozen=True)
class _Kept:
    stamp: int  # of everything below, when it was kept
    hidden: Tensor  # what entered the layer
    rows: object  # held, so that nothing else can come to have its identity


@dataclass
class _Span:
    """One stretch of work in which only some layers move."""

    lowest: Mapping[str, int]  # tower -> the lowest block that moves
    kept: dict[Hashable, _Kept] = field(default_factory=dict)
    bytes: int = 0


class Resumption:
    """Keeps what enters the lowest moving block of each tower, within its bounds.

    ``blocks`` are a tower's transformer blocks in order, each called with the hidden states first;
    ``parameters`` are all that the tower's features depend on. ``on`` is for measuring what it
    saves, and for tests.
    """

    def __init__(
        self, model: nn.Module, blocks: Mapping[str, Sequence[nn.Module]], towers: Mapping[str, Any]
    ) -> None:
        self.on = True
        self._blocks = blocks
        parameters = dict(model.named_parameters())
        self._parameters = {
            tower: [parameters[name] for name in names] for tower, names in towers.items()
        }
        weights = sum(p.numel() * p.element_size() for p in parameters.values())
        self._most = max(LEAST_BYTES, int(SHARE * weights))
        self._span = _Span({})

    @contextmanager
    def moving(self, lowest: Mapping[str, int]) -> Iterator[None]:
        """Inside, only these blocks and those above them move; towers not named stand still."""
        outer, self._span = self._span, _Span(lowest if self.on else {})
        try:
            yield
        finally:
            self._span = outer

    def through(
        self, tower: str, key: Hashable, rows: object, encode: Callable[[], Tensor]
    ) -> Tensor:
        """``encode`` over these rows, from the lowest moving block on where that is known.

        ``key`` and ``rows`` together say what is encoded; ``rows`` must not change meanwhile.
        """
        span = self._span
        cut = span.lowest.get(tower, 0)
        if not cut:
            return encode()
        place = (tower, key, id(rows))
        stamp = self._stamp(tower, cut)
        found = span.kept.get(place)
        if found is not None and found.stamp == stamp:
            with self._entering(tower, cut, found.hidden):
                return encode()
        if found is not None:
            span.bytes -= _size(found.hidden)
            del span.kept[place]
        with _seen(self._blocks[tower][cut]) as entered:
            features = encode()
        if len(entered) == 1 and span.bytes + _size(entered[0]) <= self._most:
            span.bytes += _size(entered[0])
            span.kept[place] = _Kept(stamp, entered[0], rows)
        return features

    def _stamp(self, tower: str, cut: int) -> int:
        """Changes whenever something that enters the block ``cut`` could have changed."""
        above = {id(p) for block in self._blocks[tower][cut:] for p in block.parameters()}
        return sum(p._version for p in self._parameters[tower] if id(p) not in above)

    @contextmanager
    def _entering(self, tower: str, cut: int, hidden: Tensor) -> Iterator[None]:
        """Blocks below ``cut`` do nothing, and ``cut`` is given these hidden states."""

        def instead(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return (hidden, *args[1:]), kwargs

        below = self._blocks[tower][:cut]
        hook = self._blocks[tower][cut].register_forward_pre_hook(instead, with_kwargs=True)
        try:
            for block in below:
                block.forward = _skip
            yield
        finally:
            hook.remove()
            for block in below:
                # The class's own comes to light again.
                block.__dict__.pop("forward", None)


@contextmanager
def _seen(block: nn.Module) -> Iterator[list[Tensor]]:
    """The hidden states with which the block is called inside."""
    entered: list[Tensor] = []

    def note(block: nn.Module, args: tuple[Any, ...]) -> None:
        entered.append(args[0])

    hook = block.register_forward_pre_hook(note)
    try:
        yield entered
    finally:
        hook.remove()


def _skip(hidden: Tensor, *_: object, **__: object) -> Tensor:
    return hidden


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
