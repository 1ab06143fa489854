"""What becomes of a picture: the right way up, RGB, nothing but pixels."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from front_world import encoded, pictures
from PIL import Image, PngImagePlugin

from service import intake
from service.decoders import Decoder, Decoders
from service.errors import InvalidSamples

LIMITS = intake.Limits(bytes=2**20, pixels=10_000, side=200)


def cleaned(decoders: Decoders, data: bytes) -> Image.Image:
    with intake.clean_copies({"samples": [io.BytesIO(data)]}, LIMITS, decoders) as copies:
        (path,) = copies["samples"]
        with Image.open(path) as image:
            image.load()
            return image


def flaws(
    decoders: Decoders, *files: bytes, limits: intake.Limits = LIMITS
) -> list[tuple[str, str]]:
    streams = [io.BytesIO(data) for data in files]
    with (
        pytest.raises(InvalidSamples) as caught,
        intake.clean_copies({"s": streams}, limits, decoders),
    ):
        pass
    return [(wrong.pointer, wrong.code) for wrong in caught.value.fields]


def corner(width: int, height: int) -> Image.Image:
    """Black, with a white upper left quarter: any turn of it shows."""
    image = Image.new("RGB", (width, height))
    image.paste("white", (0, 0, width // 2, height // 2))
    return image


def test_pictures_are_turned_the_right_way_up(decoders: Decoders) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter, as phones hold it
    image = cleaned(decoders, encoded(corner(32, 16), "JPEG", exif=exif, quality=95))
    assert image.size == (16, 32)
    assert image.getpixel((12, 4)) > (200, 200, 200)
    assert image.getpixel((4, 4)) < (50, 50, 50)
    assert cleaned(decoders, encoded(corner(32, 16), "JPEG")).size == (32, 16)


def test_nothing_but_pixels_is_kept(decoders: Decoders) -> None:
    comment = PngImagePlugin.PngInfo()
    comment.add_text("Author", "Quillon Vexmere")
    exif = Image.Exif()
    exif[0x010E] = "Quillon Vexmere"
    data = encoded(corner(8, 8), pnginfo=comment, exif=exif, icc_profile=b"Quillon Vexmere")
    assert b"Quillon" in data
    with intake.clean_copies({"s": [io.BytesIO(data + b"Quillon")]}, LIMITS, decoders) as copies:
        kept = copies["s"][0].read_bytes()
    assert b"Quillon" not in kept
    assert kept == encoded(corner(8, 8), compress_level=1)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "YCbCr"])
def test_every_mode_becomes_rgb(decoders: Decoders, mode: str) -> None:
    image = Image.new("L", (8, 8), 255)
    image.paste(0, (0, 0, 4, 8))
    shown = image.convert("I;16").point(lambda value: value * 257) if mode == "I;16" else image
    source = shown if mode == "I;16" else image.convert("RGB").convert(mode)
    data = encoded(source, "JPEG" if mode in {"CMYK", "YCbCr"} else "PNG")
    result = cleaned(decoders, data)
    assert result.mode == "RGB"
    assert max(result.getpixel((1, 4))) < 40
    assert min(result.getpixel((6, 4))) > 215


def test_what_is_transparent_becomes_white(decoders: Decoders) -> None:
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert cleaned(decoders, encoded(image)).getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("P", (4, 4))
    assert cleaned(decoders, encoded(palette, transparency=0)).getpixel((0, 0)) == (255, 255, 255)


def test_a_photograph_with_a_second_view_is_a_still_picture(decoders: Decoders) -> None:
    views = [corner(16, 16), corner(8, 8)]
    buffer = io.BytesIO()
    views[0].save(buffer, "MPO", save_all=True, append_images=views[1:])
    assert cleaned(decoders, buffer.getvalue()).size == (16, 16)


def test_limits_are_inclusive(decoders: Decoders) -> None:
    limits = intake.Limits(bytes=2**20, pixels=600, side=30)
    for size, code in (((30, 20), None), ((31, 2), "side_too_long"), ((30, 21), "too_many_pixels")):
        data = encoded(Image.new("RGB", size))
        if code is None:
            with intake.clean_copies({"s": [io.BytesIO(data)]}, limits, decoders):
                pass
        else:
            assert flaws(decoders, data, limits=limits) == [("/s/0", code)]


def test_the_pictures_together_have_a_limit_too(decoders: Decoders) -> None:
    limits = intake.Limits(bytes=2**20, pixels=64, side=30)
    allowed = pictures(intake.TOTAL_PIXELS_RATIO)
    with intake.clean_copies(
        {"s": [io.BytesIO(data) for data in allowed]}, limits, decoders
    ) as copies:
        assert len(copies["s"]) == intake.TOTAL_PIXELS_RATIO
    assert flaws(decoders, *pictures(len(allowed) + 1), limits=limits) == [
        ("", "too_many_pixels_in_all")
    ]


def test_each_target_adds_to_what_the_pictures_may_have_together(decoders: Decoders) -> None:
    limits = intake.Limits(bytes=2**20, pixels=64, side=30, targets=2)
    allowed = pictures(2 * intake.TOTAL_PIXELS_RATIO)
    with intake.clean_copies(
        {"s": [io.BytesIO(data) for data in allowed]}, limits, decoders
    ) as copies:
        assert len(copies["s"]) == len(allowed)
    assert flaws(decoders, *pictures(len(allowed) + 1), limits=limits) == [
        ("", "too_many_pixels_in_all")
    ]


def test_nothing_is_decoded_before_every_header_is_checked(
    decoders: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []
    go_on = Decoder.go_on

    def noted(decoder: Decoder, *, decode: bool) -> None:
        told.append(decode)
        go_on(decoder, decode=decode)

    monkeypatch.setattr(Decoder, "go_on", noted)
    good = pictures(2)
    wrong = [("/s/0", "empty"), ("/s/3", "not_an_image")]
    assert flaws(decoders, b"", *good, b"no picture") == wrong
    cleaned(decoders, good[0])
    assert told == [False, True]


def test_the_same_picture_in_two_files_is_found(decoders: Decoders) -> None:
    one = corner(8, 8)
    assert flaws(decoders, encoded(one), encoded(one, "WEBP", lossless=True)) == [
        ("/s/1", "duplicate")
    ]


def test_copies_are_gone_afterwards(decoders: Decoders) -> None:
    with intake.clean_copies({"s": [io.BytesIO(pictures(1)[0])]}, LIMITS, decoders) as copies:
        path: Path = copies["s"][0]
        assert path.exists()
    assert not path.parent.exists()
