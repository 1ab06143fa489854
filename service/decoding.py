"""The program that decodes pictures from outside: a process that can read and do nothing else.

``python -I service/decoding.py MEMORY_BYTES CPU_SECONDS``, with a socket as its standard input;
:mod:`service.decoders` starts it and talks to it. It imports nothing of ours, opens no file, has
no environment, and takes itself what it does not need before it reads a byte. It judges nothing:
what a picture may be is decided on the other side, which trusts nothing that is said here.

A batch, as the other side sees it: it sends how many pictures there are (4 bytes) and each with
its size in front (4 bytes); gets ``TAKEN``, and for each a ``HEADER``, or a ``FLAW``; sends ``GO``
to have them decoded, or ``STOP``; gets for each its ``DATA``, in pieces, and an ``END``, or a
``FLAW``. Each answer is its kind (1 byte), its size (4 bytes) and that many bytes. Numbers are
big-endian.
"""

from __future__ import annotations

import io
import math
import resource
import socket
import struct
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, BinaryIO, Final, cast

# Only where pictures are decoded: the front takes the words of the talk from here, and no library.
if TYPE_CHECKING or __name__ == "__main__":
    from PIL import Image, ImageOps

FORMATS: Final = ("JPEG", "PNG", "WEBP")
#: Phones store a second, smaller view in the file: a still picture all the same.
_STILL_WITH_VIEWS: Final = "MPO"

TAKEN: Final = b"t"
HEADER: Final = b"h"
DATA: Final = b"d"
END: Final = b"e"
FLAW: Final = b"f"
GO: Final = b"g"
STOP: Final = b"s"
#: Every flaw that is told of.
CODES: Final = ("not_an_image", "unreadable", "too_costly")
#: Kind and size of an answer.
ANSWER: Final = struct.Struct(">cI")
NUMBER: Final = struct.Struct(">I")
#: What a header says: width, height, whether the picture is a still one.
SEEN: Final = struct.Struct(">II?")

#: Level 1 writes a photograph about four times as fast as 6, at about a tenth more bytes.
_PNG_LEVEL: Final = 1
_PIECE_BYTES: Final = 2**18


class _Flawed(Exception):
    """The picture cannot be used; the code says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def main() -> None:
    """Serve batches until the other side is gone."""
    memory_bytes, cpu_seconds = (int(argument) for argument in sys.argv[1:])
    warnings.simplefilter("ignore")
    # How many pixels are too many is decided on the other side, by the header.
    Image.MAX_IMAGE_PIXELS = None
    _import_formats()
    link = socket.socket(fileno=0)
    confine(memory_bytes)
    with link.makefile("rb") as source, link.makefile("wb") as target:
        while head := source.read(NUMBER.size):
            _serve(NUMBER.unpack(head)[0], source, target, cpu_seconds)


def _import_formats() -> None:
    """Every format is imported by using it: later no file can be opened."""
    for name in FORMATS:
        written = io.BytesIO()
        Image.new("RGB", (8, 8)).save(written, name)
        with Image.open(written, formats=FORMATS) as image:
            image.load()
            ImageOps.exif_transpose(image)


def confine(memory_bytes: int) -> None:
    """From here on: so much memory, no file or connection, no other process, no core dump."""
    for kind, most in (
        (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_NOFILE, 3),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (least, least))


def _serve(count: int, source: BinaryIO, target: BinaryIO, cpu_seconds: int) -> None:
    pictures = []
    for _ in range(count):
        (size,) = NUMBER.unpack(_exactly(source, NUMBER.size))
        pictures.append(_exactly(source, size))
    _answer(target, TAKEN, b"")
    target.flush()
    for picture in pictures:
        _allow(cpu_seconds)
        _look(picture, target)
    target.flush()
    if _exactly(source, 1) != GO:
        return
    for picture in pictures:
        _allow(cpu_seconds)
        _clean(picture, target)
        target.flush()


def _exactly(source: BinaryIO, size: int) -> bytes:
    found = source.read(size)
    if len(found) < size:
        raise SystemExit(0)  # The other side is gone.
    return found


def _allow(cpu_seconds: int) -> None:
    """So much processor time from now; whoever goes on ends by SIGXCPU."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    until = math.ceil(usage.ru_utime + usage.ru_stime) + cpu_seconds
    resource.setrlimit(resource.RLIMIT_CPU, (until, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _look(picture: bytes, target: BinaryIO) -> None:
    try:
        with _open(picture) as image:
            still = image.format == _STILL_WITH_VIEWS or getattr(image, "n_frames", 1) == 1
            _answer(target, HEADER, SEEN.pack(*image.size, still))
    except _Flawed as flaw:
        _answer(target, FLAW, flaw.code.encode())


def _clean(picture: bytes, target: BinaryIO) -> None:
    pieces = _Pieces(target)
    try:
        with _open(picture) as image:
            upright = _rgb(ImageOps.exif_transpose(image))
            # Colour profiles and comments would be written along.
            upright.info.clear()
            upright.save(cast(IO[bytes], pieces), format="PNG", compress_level=_PNG_LEVEL)
    except _Flawed as flaw:
        _answer(target, FLAW, flaw.code.encode())
        return
    pieces.send()
    _answer(target, END, b"")


@contextmanager
def _open(picture: bytes) -> Iterator[Image.Image]:
    """The picture; whatever goes wrong inside is a flaw of it."""
    code = "not_an_image"
    try:
        with Image.open(io.BytesIO(picture), formats=FORMATS) as image:
            code = "unreadable"
            yield image
    except MemoryError:
        raise _Flawed("too_costly") from None
    except Exception:  # Hostile bytes make the parsers raise nearly anything.
        raise _Flawed(code) from None


def _rgb(image: Image.Image) -> Image.Image:
    """In RGB; what is transparent becomes white, as a viewer would show it."""
    if image.mode.startswith("I"):
        # Sixteen bits per pixel: keep the upper eight, conversion alone would clip.
        image = image.point(lambda value: value / 256).convert("L")
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert(
            "RGB"
        )
    return image.convert("RGB")


class _Pieces(io.RawIOBase):
    """Sends what is written to it in larger pieces."""

    def __init__(self, target: BinaryIO) -> None:
        super().__init__()
        self._target = target
        self._kept = bytearray()

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Keep it until there is enough to send."""
        self._kept += data
        if len(self._kept) >= _PIECE_BYTES:
            self.send()
        return len(data)

    def send(self) -> None:
        """All that was kept is sent."""
        if self._kept:
            _answer(self._target, DATA, self._kept)
            self._kept = bytearray()


def _answer(target: BinaryIO, kind: bytes, content: bytes | bytearray) -> None:
    target.write(ANSWER.pack(kind, len(content)))
    target.write(content)


if __name__ == "__main__":
    main()
