"""Pictures from outside: judged by their headers, decoded elsewhere, stored as plain PNG.

What is kept has no metadata, no animation, no trailing bytes: an RGB picture the right way up.
Not one byte of a picture is looked into in this process: ``service.decoders`` has others for it.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, Final

from api_schemas.problems import FieldProblem
from registry.settings import Settings
from service import plain_png
from service.decoders import Decoder, DecoderLost, Decoders, DecoderSlow, Flaw, Seen
from service.errors import DecoderUnavailable, InvalidSamples

logger = logging.getLogger("razor.intake")

#: All pictures of a request together, for each target, relative to the largest that one picture may
#: be (our choice): fifty photographs of 20 megapixels pass, two hundred of the largest do not.
TOTAL_PIXELS_RATIO: Final = 25

FLAWS: Final[dict[str, str]] = {
    "empty": "The file is empty.",
    "too_many_bytes": "The file has too many bytes; send a smaller one.",
    "not_an_image": "This is not a JPEG, PNG or WEBP picture.",
    "animated": "The picture is animated; send a still one.",
    "too_many_pixels": "The picture has too many pixels; send a smaller one.",
    "side_too_long": "A side of the picture is too long; send a smaller one.",
    "unreadable": "The picture is truncated or damaged; send it again.",
    "too_costly": "Decoding the picture takes more memory or time than it may; save it anew, "
    "without layers or scans, or send a smaller one.",
    "duplicate": "The picture is the same as an earlier one; send each picture once, so that "
    "none is both learned from and measured on.",
    "too_many_pixels_in_all": "The pictures have too many pixels together; send smaller ones.",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one picture may be, and of how many targets there are pictures."""

    bytes: int
    pixels: int
    side: int
    targets: int = 1

    @classmethod
    def of(cls, settings: Settings, targets: int) -> Limits:
        """The limits that the operator set."""
        return cls(
            bytes=settings.max_sample_bytes,
            pixels=settings.max_image_pixels,
            side=settings.max_image_side,
            targets=targets,
        )

    def flaw_of(self, header: Seen | Flaw) -> str | None:
        """The code of what is wrong with a picture that has this header, None if nothing is."""
        if isinstance(header, Flaw):
            return header.code
        if max(header.width, header.height) > self.side:
            return "side_too_long"
        if header.width * header.height > self.pixels:
            return "too_many_pixels"
        return None if header.still else "animated"

    @property
    def total_pixels(self) -> int:
        """Of all pictures together."""
        return TOTAL_PIXELS_RATIO * self.pixels * self.targets


@dataclass(frozen=True, slots=True)
class _Picture:
    """One picture as it came, and where in the request it stands."""

    pointer: str
    file: BinaryIO


@contextmanager
def clean_copies(
    groups: Mapping[str, Sequence[BinaryIO]],
    limits: Limits,
    decoders: Decoders,
    work_folder: Path | None = None,
) -> Iterator[dict[str, list[Path]]]:
    """Clean PNG files of every picture, by group and in order, removed again on leaving.

    They lie in ``work_folder``, where the janitor finds them after a crash; None = the system's own
    folder for such files, which nobody sweeps.

    The groups' names are the request's fields: a flaw of the fourth file of ``samples`` is at
    ``/samples/3``. Raises ``InvalidSamples`` with every flaw found; nothing is decoded before all
    headers are within the limits. A decoder holds the batch and one whole picture in memory, so the
    caller bounds how many calls run at once. Raises ``DecoderUnavailable``.
    """
    pictures = [
        _Picture(f"/{name}/{index}", file)
        for name, files in groups.items()
        for index, file in enumerate(files)
    ]
    if work_folder is not None:
        work_folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="intake-", dir=work_folder) as folder:
        paths = _clean(pictures, limits, decoders, Path(folder))
        yield {
            name: [paths[f"/{name}/{index}"] for index in range(len(files))]
            for name, files in groups.items()
        }


def _flaw_of_size(file: BinaryIO, limits: Limits) -> Flaw | None:
    size_bytes = file.seek(0, os.SEEK_END)
    if size_bytes == 0:
        return Flaw("empty")
    return Flaw("too_many_bytes") if size_bytes > limits.bytes else None


def _clean(
    pictures: Sequence[_Picture], limits: Limits, decoders: Decoders, folder: Path
) -> dict[str, Path]:
    try:
        return _clean_once(pictures, limits, decoders, folder)
    except DecoderSlow as lost:
        raise _at_fault(pictures, lost, "too_costly") from None
    except DecoderLost:
        pass
    try:
        # Once more: it may have died of something else, such as a machine without memory.
        return _clean_once(pictures, limits, decoders, folder)
    except DecoderLost as lost:
        code = "too_costly" if isinstance(lost, DecoderSlow) else "unreadable"
        raise _at_fault(pictures, lost, code) from None


def _clean_once(
    pictures: Sequence[_Picture], limits: Limits, decoders: Decoders, folder: Path
) -> dict[str, Path]:
    """The clean files by pointer. Raises ``InvalidSamples``, ``DecoderLost``."""
    sizes = [_flaw_of_size(picture.file, limits) for picture in pictures]
    try:
        with decoders.borrowed() as decoder:
            # Nothing in place of what is not worth a look, so that the numbers stay.
            decoder.send(
                [io.BytesIO() if flaw else p.file for p, flaw in zip(pictures, sizes, strict=True)]
            )
            looked = [decoder.look() for _ in pictures]
            seen = [flaw or header for flaw, header in zip(sizes, looked, strict=True)]
            flaws = _flaws_of_headers(pictures, seen, limits)
            decoder.go_on(decode=not flaws)
            paths, flaws = ({}, flaws) if flaws else _decode(pictures, seen, decoder, folder)
    except DecoderLost as lost:
        logger.warning("decoder lost", extra={"code": type(lost).__name__})
        raise
    if flaws:
        # Only here: a decoder that is left by an exception is thrown away.
        raise InvalidSamples(flaws)
    return paths


def _flaws_of_headers(
    pictures: Sequence[_Picture], seen: Sequence[Seen | Flaw], limits: Limits
) -> list[FieldProblem]:
    codes = [limits.flaw_of(header) for header in seen]
    flaws = [
        _problem(picture.pointer, code)
        for picture, code in zip(pictures, codes, strict=True)
        if code is not None
    ]
    pixels = sum(header.width * header.height for header in seen if isinstance(header, Seen))
    if not flaws and pixels > limits.total_pixels:
        flaws.append(_problem("", "too_many_pixels_in_all"))
    return flaws


def _decode(
    pictures: Sequence[_Picture], seen: Sequence[Seen | Flaw], decoder: Decoder, folder: Path
) -> tuple[dict[str, Path], list[FieldProblem]]:
    flaws: list[FieldProblem] = []
    paths: dict[str, Path] = {}
    digests: set[str] = set()
    for number, (picture, header) in enumerate(zip(pictures, seen, strict=True)):
        assert isinstance(header, Seen)
        path = folder / f"{number}.png"
        found = _write(decoder, header, path)
        if not isinstance(found, Flaw) and found in digests:
            found = Flaw("duplicate")
        if isinstance(found, Flaw):
            flaws.append(_problem(picture.pointer, found.code))
            continue
        digests.add(found)
        paths[picture.pointer] = path
    return paths, flaws


def _write(decoder: Decoder, header: Seen, path: Path) -> str | Flaw:
    """Write the next picture to ``path``; its sha256, or what is wrong with it."""
    width, height = header.width, header.height
    with path.open("w+b") as file:
        flaw = decoder.clean_into(file, plain_png.max_bytes(width, height))
        if flaw is not None:
            return flaw
        file.seek(0)
        try:
            return plain_png.digest(file, width, height)
        except plain_png.NotPlain:
            raise decoder.lied() from None


def _at_fault(pictures: Sequence[_Picture], lost: DecoderLost, code: str) -> Exception:
    """The picture that took a decoder down; without one the decoders themselves are at fault."""
    if lost.number is None:
        return DecoderUnavailable()
    return InvalidSamples([_problem(pictures[lost.number].pointer, code)])


def _problem(pointer: str, code: str) -> FieldProblem:
    return FieldProblem(pointer=pointer, code=code, detail=FLAWS[code])
