"""Pictures from outside: checked on their headers, decoded within limits, stored as plain PNG.

What is kept has no metadata, no animation, no trailing bytes: an RGB picture the right way up.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, Final

from PIL import Image, ImageOps

from api_schemas.problems import FieldProblem
from registry.settings import Settings
from service.errors import InvalidSamples

FORMATS: Final = ("JPEG", "PNG", "WEBP")
#: Phones store a second, smaller view in the file: a still picture all the same.
_STILL_WITH_VIEWS: Final = "MPO"
#: All pictures of a request together, for each target, relative to the largest that one picture may
#: be (our choice): fifty photographs of 20 megapixels pass, two hundred of the largest do not.
TOTAL_PIXELS_RATIO: Final = 25
#: Level 1 writes a photograph about four times as fast as 6, at about a tenth more bytes.
_PNG_LEVEL: Final = 1

# Process-wide, because changing filters for one call at a time is not safe between threads.
warnings.simplefilter("error", Image.DecompressionBombWarning)

FLAWS: Final[dict[str, str]] = {
    "empty": "The file is empty.",
    "too_many_bytes": "The file has too many bytes; send a smaller one.",
    "not_an_image": "This is not a JPEG, PNG or WEBP picture.",
    "animated": "The picture is animated; send a still one.",
    "too_many_pixels": "The picture has too many pixels; send a smaller one.",
    "side_too_long": "A side of the picture is too long; send a smaller one.",
    "unreadable": "The picture is truncated or damaged; send it again.",
    "duplicate": "The picture is the same as an earlier one; send each picture once, so that "
    "none is both learned from and measured on.",
    "too_many_pixels_in_all": "The pictures have too many pixels together; send smaller ones.",
}


class _Flawed(Exception):
    """The picture cannot be used; the code says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


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

    @property
    def total_pixels(self) -> int:
        """Of all pictures together."""
        return TOTAL_PIXELS_RATIO * self.pixels * self.targets


@contextmanager
def clean_copies(
    groups: Mapping[str, Sequence[BinaryIO]], limits: Limits, work_folder: Path | None = None
) -> Iterator[dict[str, list[Path]]]:
    """Clean PNG files of every picture, by group and in order, removed again on leaving.

    They lie in ``work_folder``, where the janitor finds them after a crash; None = the system's own
    folder for such files, which nobody sweeps.

    The groups' names are the request's fields: a flaw of the fourth file of ``samples`` is at
    ``/samples/3``. Raises ``InvalidSamples`` with every flaw found; nothing is decoded before all
    headers are within the limits. Decoding holds one whole picture in memory, so the caller bounds
    how many calls run at once.
    """
    pictures = [
        (f"/{name}/{index}", file)
        for name, files in groups.items()
        for index, file in enumerate(files)
    ]
    _check_headers(pictures, limits)
    if work_folder is not None:
        work_folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="intake-", dir=work_folder) as folder:
        paths = _clean_all(pictures, Path(folder))
        yield {
            name: [paths[f"/{name}/{index}"] for index in range(len(files))]
            for name, files in groups.items()
        }


def _check_headers(pictures: Sequence[tuple[str, BinaryIO]], limits: Limits) -> None:
    flaws: list[FieldProblem] = []
    pixels = 0
    for pointer, file in pictures:
        try:
            pixels += _check_header(file, limits)
        except _Flawed as flaw:
            flaws.append(_problem(pointer, flaw.code))
    if not flaws and pixels > limits.total_pixels:
        flaws.append(_problem("", "too_many_pixels_in_all"))
    if flaws:
        raise InvalidSamples(flaws)


def _check_header(file: BinaryIO, limits: Limits) -> int:
    """The number of pixels that the header announces. Raises ``_Flawed``."""
    size_bytes = file.seek(0, os.SEEK_END)
    if size_bytes == 0:
        raise _Flawed("empty")
    if size_bytes > limits.bytes:
        raise _Flawed("too_many_bytes")
    with _open(file) as image:
        width, height = image.size
        if max(width, height) > limits.side:
            raise _Flawed("side_too_long")
        if width * height > limits.pixels:
            raise _Flawed("too_many_pixels")
        if getattr(image, "n_frames", 1) > 1 and image.format != _STILL_WITH_VIEWS:
            raise _Flawed("animated")
        return width * height


@contextmanager
def _open(file: BinaryIO) -> Iterator[Image.Image]:
    file.seek(0)
    try:
        image = Image.open(file, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _Flawed("too_many_pixels") from None
    except MemoryError:
        raise
    except Exception:  # Hostile bytes make the parsers raise nearly anything.
        raise _Flawed("not_an_image") from None
    # Leaving the image leaves the file open: it is the caller's.
    with image:
        yield image


def _clean_all(pictures: Sequence[tuple[str, BinaryIO]], folder: Path) -> dict[str, Path]:
    flaws: list[FieldProblem] = []
    paths: dict[str, Path] = {}
    seen: set[str] = set()
    for number, (pointer, file) in enumerate(pictures):
        path = folder / f"{number}.png"
        try:
            digest = _clean(file, path)
            if digest in seen:
                raise _Flawed("duplicate")
        except _Flawed as flaw:
            flaws.append(_problem(pointer, flaw.code))
            continue
        seen.add(digest)
        paths[pointer] = path
    if flaws:
        raise InvalidSamples(flaws)
    return paths


def _clean(file: BinaryIO, path: Path) -> str:
    """Write the picture as a plain RGB PNG; its sha256 is returned. Raises ``_Flawed``."""
    with _open(file) as image:
        try:
            upright = _rgb(ImageOps.exif_transpose(image))
        except MemoryError:
            raise
        except Exception:  # As above: a damaged picture fails in as many ways as it has bytes.
            raise _Flawed("unreadable") from None
        # Colour profiles and comments would be written along.
        upright.info.clear()
        upright.save(path, format="PNG", compress_level=_PNG_LEVEL)
    with path.open("rb") as written:
        return hashlib.file_digest(written, "sha256").hexdigest()


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


def _problem(pointer: str, code: str) -> FieldProblem:
    return FieldProblem(pointer=pointer, code=code, detail=FLAWS[code])
