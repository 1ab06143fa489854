"""Bytes that can be read from any place without being held: the pieces of a download."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from patches import slices
from patches.container import Source, open_source, read_range

_CHUNK_BYTES = 1 << 20


class Part(Protocol):
    """A stretch of bytes of known size."""

    @property
    def size(self) -> int:
        """How many bytes it has."""
        ...

    def iter_range(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from ``start`` up to ``stop``, in chunks; the same on every call."""
        ...


@dataclass(frozen=True, slots=True)
class Literal:
    """Bytes held in memory."""

    data: bytes

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return len(self.data)

    def iter_range(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from ``start`` up to ``stop``."""
        for position in range(start, stop, _CHUNK_BYTES):
            yield self.data[position : min(position + _CHUNK_BYTES, stop)]


@dataclass(frozen=True, slots=True)
class FileRange:
    """A stretch of a file; opened for each read, so that readers do not share a position."""

    source: Source
    begin: int
    size: int

    def iter_range(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from ``start`` up to ``stop``; raises MalformedContainer if the file shrank."""
        if start < stop:
            with open_source(self.source) as file:
                yield from read_range(file, self.begin + start, stop - start)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a tensor and the box in it that the part replaces."""

    values: FileRange
    box: slices.Box


@dataclass(frozen=True, slots=True)
class Assembled:
    """One tensor with pieces put in place, in order. Reading holds this one tensor in memory."""

    whole: FileRange
    dtype: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return self.whole.size

    def iter_range(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from ``start`` up to ``stop``."""
        if start < stop:
            yield from Literal(self._bytes()).iter_range(start, stop)

    def _bytes(self) -> bytes:
        whole = bytearray(self.whole.size)
        _fill(whole, self.whole)
        for piece in self.pieces:
            part = bytearray(piece.values.size)
            _fill(part, piece.values)
            slices.put(whole, part, dtype=self.dtype, shape=self.shape, box=piece.box)
        return bytes(whole)


class Joined:
    """Parts one after the other, as one."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = [part for part in parts if part.size]
        self._starts: list[int] = []
        position = 0
        for part in self._parts:
            self._starts.append(position)
            position += part.size
        self.size = position

    def iter_range(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes from ``start`` up to ``stop`` (to the end when None), in chunks up to 1 MiB.

        Bounds beyond the end are cut, as in a slice; raises ValueError below zero.
        """
        stop = self.size if stop is None else min(stop, self.size)
        if start < 0 or stop < 0:
            raise ValueError("a range begins and ends at zero or above")
        index = bisect.bisect_right(self._starts, start) - 1
        while start < stop:
            begin, part = self._starts[index], self._parts[index]
            end = min(begin + part.size, stop)
            yield from part.iter_range(start - begin, end - begin)
            start, index = end, index + 1


def _fill(target: bytearray, source: FileRange) -> None:
    position = 0
    for chunk in source.iter_range(0, source.size):
        target[position : position + len(chunk)] = chunk
        position += len(chunk)
