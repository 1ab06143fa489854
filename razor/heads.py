"""From a transformer layer to its units: six matrices, and its attention heads as slices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from razor.protocols import Region, Unit


@dataclass(frozen=True)
class Layer:
    """Where the weights of one transformer layer lie.

    ``query``, ``key`` and ``value`` are (width, width) blocks with heads along the rows; with a
    fused in-projection they are three row blocks of one parameter. ``out`` has heads along its
    columns. ``up`` and ``down`` are the two matrices of the feed-forward part.
    """

    tower: str
    index: int
    heads: int
    query: Region
    key: Region
    value: Region
    out: Region
    up: Region
    down: Region

    def prefix(self) -> str:
        """How the layer's units are named, whichever library the model comes from."""
        return f"{self.tower}.{self.index}"


def matrices(layer: Layer) -> Iterator[Unit]:
    """The layer's six weight matrices."""
    named = {
        "q": layer.query,
        "k": layer.key,
        "v": layer.value,
        "out": layer.out,
        "up": layer.up,
        "down": layer.down,
    }
    for name, region in named.items():
        yield Unit(f"{layer.prefix()}.{name}", layer.tower, layer.index, "matrix", (region,))


def head_units(layer: Layer) -> Iterator[Unit]:
    """The layer's attention heads: rows of q, k, v and columns of the output projection."""
    for head in range(layer.heads):
        regions = (
            *(_rows(block, head, layer.heads) for block in (layer.query, layer.key, layer.value)),
            _columns(layer.out, head, layer.heads),
        )
        yield Unit(f"{layer.prefix()}.head{head}", layer.tower, layer.index, "head", tuple(regions))


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
