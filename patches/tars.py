"""The same files are the same tar, to the bit: times and owners zero, modes alike."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable
from typing import Final

from patches.segments import Joined, Literal, Part

_MODE: Final = 0o644


def members(files: Iterable[tuple[str, Part]]) -> Joined:
    """The files as members of a tar, in the order given, without the end that a tar has."""
    parts: list[Part] = []
    for name, body in files:
        parts += [Literal(_header(name, body.size)), body]
        parts.append(Literal(bytes(-body.size % tarfile.BLOCKSIZE)))
    return Joined(parts)


def end(size: int) -> Literal:
    """What comes after members of so many bytes, so that they are a tar."""
    return Literal(
        bytes(2 * tarfile.BLOCKSIZE + -(size + 2 * tarfile.BLOCKSIZE) % tarfile.RECORDSIZE)
    )


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = _MODE
    return member.tobuf(format=tarfile.PAX_FORMAT)
