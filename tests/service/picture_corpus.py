"""Pictures that somebody might send to hurt: made here, so that no such file lies anywhere.

Each has the code of the flaw that it must be refused with, or None: then it must become a plain
picture that looks like the first frame's ``LOOK``.
"""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image, PngImagePlugin

SIDE: Final = 16
#: In no clean copy may it be found.
SECRET: Final = b"Quillon Vexmere"
PNG: Final = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Hostile:
    """One file, and what must become of it: refused with one of the codes, or a picture."""

    name: str
    data: bytes
    codes: tuple[str, ...] = ()


def look() -> Image.Image:
    """Dark on the left, bright on the right."""
    image = Image.new("RGB", (SIDE, SIDE), (20, 20, 20))
    image.paste((230, 230, 230), (SIDE // 2, 0, SIDE, SIDE))
    return image


def encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG of any header and any chunks between it and the end."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return PNG + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


def jpeg_of_size(width: int, height: int) -> bytes:
    """A JPEG whose header announces another size than its data has."""
    data = bytearray(encoded(look(), "JPEG"))
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def webp_of_size(width: int, height: int) -> bytes:
    """An extended WEBP that announces a canvas of this size."""
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + canvas
    body += encoded(look(), "WEBP")[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def many_scans(count: int, side: int) -> bytes:
    """A progressive JPEG that has one of its scans over and over: each costs a whole pass."""
    data = encoded(Image.new("L", (side, side), 99), "JPEG", progressive=True)
    starts = [place for place in range(len(data) - 1) if data[place : place + 2] == b"\xff\xda"]
    last = data[starts[-1] : -2]
    return data[: starts[-1]] + last * count + data[-2:]


def idat(pixels: bytes) -> bytes:
    return chunk(b"IDAT", zlib.compress(pixels, 9))


def rows(width: int, height: int) -> bytes:
    return (b"\x00" + bytes(3 * width)) * height


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../etc/passwd", SECRET)
    return buffer.getvalue()


def animated(image_format: str) -> bytes:
    frames = [look(), Image.new("RGB", (SIDE, SIDE), "blue")]
    return encoded(frames[0], image_format, save_all=True, append_images=frames[1:])


def described(text: bytes) -> Image.Exif:
    """What cameras write besides, with this text in it."""
    exif = Image.Exif()
    exif[0x010E] = text.decode()
    return exif


def with_exif(size: int) -> bytes:
    return encoded(look(), "JPEG", exif=described(SECRET * (size // len(SECRET))))


def with_text(size: int, *, compressed: bool) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", SECRET.decode() * (size // len(SECRET)), zip=compressed)
    return encoded(look(), "PNG", pnginfo=info)


def modes() -> list[Hostile]:
    grey = look().convert("L")
    deep = grey.convert("I;16").point(lambda value: value * 257)
    clear = look().convert("RGBA")
    palette = look().quantize(8)
    return [
        Hostile("CMYK JPEG", encoded(look().convert("CMYK"), "JPEG", quality=95)),
        Hostile("grey JPEG", encoded(grey, "JPEG", quality=95)),
        Hostile("16-bit PNG", encoded(deep, "PNG")),
        Hostile("palette PNG", encoded(palette, "PNG")),
        Hostile("palette PNG with transparency", encoded(palette, "PNG", transparency=7)),
        Hostile("alpha PNG", encoded(clear, "PNG")),
        Hostile("grey and alpha PNG", encoded(look().convert("LA"), "PNG")),
        Hostile("one-bit PNG", encoded(look().convert("1"), "PNG")),
        Hostile("lossless WEBP with alpha", encoded(clear, "WEBP", lossless=True)),
    ]


def damaged() -> list[Hostile]:
    """Whole files of noise, cut and with bits flipped: nearly anything may come of a flip."""
    found = []
    rng = random.Random(7)
    noise = Image.effect_noise((48, 48), 90).convert("RGB")
    for image_format in ("PNG", "JPEG", "WEBP"):
        whole = encoded(noise, image_format)
        for share in (0.02, 0.3, 0.6, 0.9):
            cut = whole[: int(len(whole) * share)]
            found.append(
                Hostile(f"{image_format} cut at {share}", cut, ("not_an_image", "unreadable"))
            )
        for number in range(12):
            data = bytearray(whole)
            for _ in range(rng.choice((1, 8, 64))):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            found.append(Hostile(f"{image_format} flipped {number}", bytes(data), ANYTHING))
    return found


#: A flipped bit may be in a pixel, in a size, in a mark: a picture, or any of these.
ANYTHING: Final = (
    "",
    "not_an_image",
    "unreadable",
    "too_many_pixels",
    "side_too_long",
    "animated",
    "too_costly",
)
NOT: Final = ("not_an_image",)
BAD: Final = ("unreadable",)
EITHER: Final = (*NOT, *BAD)
LONG: Final = ("side_too_long",)
MANY: Final = ("too_many_pixels",)
MOVES: Final = ("animated",)


def corpus() -> list[Hostile]:
    """Every file."""
    good = encoded(look(), "PNG")
    photo = encoded(look(), "JPEG", quality=95)
    return [
        Hostile("empty", b"", ("empty",)),
        Hostile("one byte", b"\x89", NOT),
        Hostile("magic alone", PNG, EITHER),
        Hostile("wrong magic", b"\x88" + good[1:], NOT),
        Hostile("zeros", bytes(4096), NOT),
        Hostile("text", b"just some text", NOT),
        Hostile("SVG", b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>', NOT),
        Hostile("HTML", b"<!doctype html><script>1</script>", NOT),
        Hostile("HEIC header", b"\x00\x00\x00\x18ftypheic" + bytes(200), NOT),
        Hostile("TIFF", encoded(look(), "TIFF"), NOT),
        Hostile("BMP", encoded(look(), "BMP"), NOT),
        Hostile("GIF", encoded(look(), "GIF"), NOT),
        Hostile("animated GIF", animated("GIF"), NOT),
        Hostile("EPS", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", NOT),
        Hostile("PDF", b"%PDF-1.7\n", NOT),
        Hostile("pickle", b"\x80\x04cos\nsystem\n", NOT),
        Hostile("animated PNG", animated("PNG"), MOVES),
        Hostile("animated WEBP", animated("WEBP"), MOVES),
        Hostile("sides of 2^31", png(2**31, 2**31, idat(b"")), (*EITHER, *LONG)),
        Hostile("sides of 2^31 - 1", png(2**31 - 1, 2**31 - 1, idat(b"")), (*EITHER, *LONG)),
        Hostile("sides of 2^32 - 1", png(2**32 - 1, 2**32 - 1, idat(b"")), (*EITHER, *LONG)),
        Hostile("long and thin", png(10_000, 1, idat(rows(10_000, 1))), LONG),
        Hostile("a bomb by its header", png(200, 200, idat(rows(200, 200))), MANY),
        Hostile("a JPEG of 65500 x 65500", jpeg_of_size(65_500, 65_500), LONG),
        Hostile("a WEBP of 16384 x 16384", webp_of_size(16_384, 16_384), (*EITHER, *LONG)),
        Hostile("a bomb in the pixels", png(8, 8, idat(bytes(2**26))), ("", *BAD)),
        Hostile("a bomb in a profile",
                png(8, 8, chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(2**26))), idat(rows(8, 8))),
                ("", *EITHER)),
        Hostile("a bomb in a text",
                png(8, 8, chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(2**26))), idat(rows(8, 8))),
                ("", *EITHER)),
        Hostile("ten thousand texts",
                png(8, 8, *[chunk(b"tEXt", b"k%d\0v" % number) for number in range(10_000)],
                    idat(rows(8, 8))), ("", *EITHER)),
        Hostile("no width", png(0, 8, idat(b"")), EITHER),
        Hostile("no height", png(8, 0, idat(b"")), EITHER),
        Hostile("no sides in a JPEG", jpeg_of_size(0, 0), (*EITHER, "too_costly")),
        Hostile("no pixels", png(8, 8), EITHER),
        Hostile("too few pixels", png(8, 8, idat(rows(8, 4))), ("", *BAD)),
        Hostile("a size that lies", png(8, 8, b"\xff\xff\xff\xffIDAT" + bytes(64)), EITHER),
        Hostile("an impossible depth", png(8, 8, idat(rows(8, 8)), depth=7), EITHER),
        Hostile("a palette without one", png(8, 8, idat(bytes(72)), colour=3), ("", *EITHER)),
        Hostile("two headers",
                png(8, 8, chunk(b"IHDR", struct.pack(">IIBBBBB", 90_000, 90_000, 8, 2, 0, 0, 0)),
                    idat(rows(8, 8))), (*EITHER, *LONG, *MANY)),
        # What is a picture, and something else besides: the picture is kept, the rest is not.
        Hostile("PNG and ZIP", good + zipped()),
        Hostile("JPEG and HTML", photo + b"<script>" + SECRET + b"</script>"),
        Hostile("JPEG with a comment of HTML",
                encoded(look(), "JPEG", quality=95, comment=b"<script>" + SECRET)),
        Hostile("JPEG with a large EXIF", with_exif(60_000)),
        Hostile("PNG with a text", with_text(60_000, compressed=False)),
        Hostile("PNG with a compressed text", with_text(60_000, compressed=True)),
        Hostile("PNG with a profile", encoded(look(), "PNG", icc_profile=SECRET * 4000)),
        Hostile("WEBP with EXIF and XMP",
                encoded(look(), "WEBP", quality=95, exif=described(SECRET), xmp=SECRET)),
        Hostile("JPEG with a broken EXIF",
                encoded(look(), "JPEG", exif=b"Exif\0\0" + SECRET), ("", *BAD)),
        *modes(),
        *damaged(),
    ]  # fmt: skip
