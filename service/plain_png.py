"""A PNG file of the one form that is stored: RGB in eight bits, and nothing but pixels.

The file comes from a process that had hostile bytes in its hands; whoever opens it later relies
on it being no more than a header, compressed pixels and an end.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import BinaryIO, Final

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_HEAD: Final = struct.Struct(">I4s")
_CHECK: Final = struct.Struct(">I")
#: Width, height, eight bits, colours, and the only compression, filter and no interlacing.
_HEADER: Final = struct.Struct(">II5s")
_RGB: Final = bytes((8, 2, 0, 0, 0))
#: What the writer puts into one chunk at most; a longer one is not its own.
_MAX_CHUNK_BYTES: Final = 2**22


class NotPlain(Exception):
    """The file is not of the one form."""


def max_bytes(width: int, height: int) -> int:
    """What the file of such a picture never passes, incompressible as it may be."""
    return 4 * width * height + 2**16


def digest(file: BinaryIO, width: int, height: int) -> str:
    """The file's sha256, if it is a plain PNG of this size, lying or upright. Raises ``NotPlain``.

    Memory is that of one chunk. What the pixels are is not looked at.
    """
    found = hashlib.sha256()

    def take(size: int) -> bytes:
        data = file.read(size)
        if len(data) < size:
            raise NotPlain
        found.update(data)
        return data

    if take(len(_SIGNATURE)) != _SIGNATURE:
        raise NotPlain
    kinds: list[bytes] = []
    while not kinds or kinds[-1] != b"IEND":
        size, kind = _HEAD.unpack(take(_HEAD.size))
        if size > _MAX_CHUNK_BYTES:
            raise NotPlain
        content = take(size)
        if _CHECK.unpack(take(_CHECK.size))[0] != zlib.crc32(content, zlib.crc32(kind)):
            raise NotPlain
        if not kinds:
            _check_header(kind, content, width, height)
        elif (kind, kinds[-1]) == (b"IEND", b"IHDR") or kind not in (b"IDAT", b"IEND"):
            raise NotPlain
        kinds.append(kind)
    if content or file.read(1):
        raise NotPlain
    return found.hexdigest()


def _check_header(kind: bytes, content: bytes, width: int, height: int) -> None:
    if kind != b"IHDR" or len(content) != _HEADER.size:
        raise NotPlain
    *size, form = _HEADER.unpack(content)
    if sorted(size) != sorted((width, height)) or form != _RGB:
        raise NotPlain
