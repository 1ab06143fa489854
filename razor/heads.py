"""From a transformer layer to its units: its matrices, and its attention heads as slices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from razor.protocols import Region, Unit


@dataclass(frozen=True)
class Attention:
    """One attention of a layer.

    ``rows``: query, key and value blocks with heads along their rows; with a fused in-projection
    three row blocks of one parameter, with two streams of tokens three of each. ``columns``:
    output projections with heads along their columns. ``name`` tells several of a layer apart.
    """

    heads: int
    rows: Mapping[str, Region]
    columns: Mapping[str, Region]
    name: str = ""


@dataclass(frozen=True)
class Layer:
    """Where the weights of one transformer layer lie; ``others`` belong to no head."""

    tower: str
    index: int
    attentions: tuple[Attention, ...]
    others: Mapping[str, Region]

    def prefix(self, attention: Attention | None = None) -> str:
        """How the layer's units are named, whichever library the model comes from."""
        own = f"{self.tower}.{self.index}"
        return f"{own}.{attention.name}" if attention and attention.name else own


def plain_layer(
    tower: str,
    index: int,
    heads: int,
    query: Region,
    key: Region,
    value: Region,
    out: Region,
    up: Region,
    down: Region,
) -> Layer:
    """A layer with one self-attention and a feed-forward part of two matrices."""
    attention = Attention(heads, {"q": query, "k": key, "v": value}, {"out": out})
    return Layer(tower, index, (attention,), {"up": up, "down": down})


def units(layer: Layer) -> Iterator[Unit]:
    """Everything of a layer that may be edited."""
    yield from matrices(layer)
    yield from head_units(layer)


def matrices(layer: Layer) -> Iterator[Unit]:
    """The layer's weight matrices."""
    for attention in layer.attentions:
        for name, region in {**attention.rows, **attention.columns}.items():
            yield _matrix(layer, f"{layer.prefix(attention)}.{name}", region)
    for name, region in layer.others.items():
        yield _matrix(layer, f"{layer.prefix()}.{name}", region)


def head_units(layer: Layer) -> Iterator[Unit]:
    """The layer's attention heads: rows of q, k, v and columns of the output projection."""
    for attention in layer.attentions:
        for head in range(attention.heads):
            regions = (
                *(_rows(block, head, attention.heads) for block in attention.rows.values()),
                *(_columns(block, head, attention.heads) for block in attention.columns.values()),
            )
            name = f"{layer.prefix(attention)}.head{head}"
            yield Unit(name, layer.tower, layer.index, "head", regions)


def _matrix(layer: Layer, name: str, region: Region) -> Unit:
    return Unit(name, layer.tower, layer.index, "matrix", (region,))


def _part(span: tuple[int, int], index: int, count: int) -> tuple[int, int]:
    start, stop = span
    width = (stop - start) // count
    return start + index * width, start + (index + 1) * width


def _rows(block: Region, index: int, count: int) -> Region:
    rows, columns = block.ranges
    return Region(block.parameter, (_part(rows, index, count), columns))


def _columns(block: Region, index: int, count: int) -> Region:
    rows, columns = block.ranges
    return Region(block.parameter, (rows, _part(columns, index, count)))
