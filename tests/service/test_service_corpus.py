"""Broken, huge, disguised, animated pictures: refused clearly, or made into plain ones."""

from __future__ import annotations

import io
import json

import picture_corpus
import pytest
from front_world import World, as_files, fields, pictures
from PIL import Image

from service import intake, plain_png
from service.decoders import Decoders
from service.errors import InvalidSamples

LIMITS = intake.Limits(bytes=2**20, pixels=10_000, side=2000)
CORPUS = {hostile.name: hostile for hostile in picture_corpus.corpus()}


@pytest.mark.parametrize("name", CORPUS)
def test_every_file_is_refused_or_becomes_a_plain_picture(decoders: Decoders, name: str) -> None:
    hostile = CORPUS[name]
    groups = {"samples": [io.BytesIO(pictures(1)[0]), io.BytesIO(hostile.data)]}
    try:
        with intake.clean_copies(groups, LIMITS, decoders) as copies:
            kept = copies["samples"][1].read_bytes()
    except InvalidSamples as refused:
        (flaw,) = refused.fields
        assert flaw.pointer == "/samples/1"
        assert flaw.code in hostile.codes
        return
    assert not hostile.codes or "" in hostile.codes
    with Image.open(io.BytesIO(kept)) as image:
        size = image.size
        image.load()
        assert (image.format, image.mode, image.info) == ("PNG", "RGB", {})
        if not hostile.codes:
            assert max(image.getpixel((2, 8))) < 60
            assert min(image.getpixel((13, 8))) > 195
    plain_png.digest(io.BytesIO(kept), *size)
    assert picture_corpus.SECRET not in kept
    assert b"<script>" not in kept


def test_the_corpus_has_of_everything() -> None:
    """The control: files that must pass, and each flaw that a header or a decoder can show."""
    kept = [hostile for hostile in CORPUS.values() if not hostile.codes]
    codes = {code for hostile in CORPUS.values() for code in hostile.codes if code}
    assert len(kept) >= 15
    assert codes == set(intake.FLAWS) - {"too_many_bytes", "duplicate", "too_many_pixels_in_all"}
    assert any(picture_corpus.SECRET in hostile.data for hostile in kept)


def test_over_http_each_is_a_problem_that_points_at_the_picture(front: World) -> None:
    assert front.http is not None
    bad = [hostile.data for hostile in CORPUS.values() if hostile.codes == ("not_an_image",)]
    before = front.stored()
    request = ("request", (None, json.dumps(fields()), "application/json"))
    answer = front.http.post("/unlearn", files=[request, *as_files([*pictures(3), *bad])])
    assert answer.status_code == 422
    assert answer.json()["type"] == "/problems/invalid-samples"
    pointers = [wrong["pointer"] for wrong in answer.json()["errors"]]
    assert pointers == [f"/samples/{3 + number}" for number in range(len(bad))]
    assert front.stored() == before


def test_a_plain_picture_is_told_from_anything_else() -> None:
    """What a decoder in bad hands might give back is not stored."""
    good = picture_corpus.encoded(picture_corpus.look(), "PNG")
    side = picture_corpus.SIDE
    plain_png.digest(io.BytesIO(good), side, side)
    text = picture_corpus.with_text(100, compressed=False)
    flipped = bytearray(good)
    flipped[-20] ^= 1
    for data in (
        b"",
        good[:-1],
        good + b"x",
        good + good,
        text,
        bytes(flipped),
        picture_corpus.png(side, side),
        picture_corpus.png(side, side, depth=16),
        picture_corpus.animated("PNG"),
        picture_corpus.encoded(picture_corpus.look(), "JPEG"),
        picture_corpus.encoded(picture_corpus.look().convert("L"), "PNG"),
    ):
        with pytest.raises(plain_png.NotPlain):
            plain_png.digest(io.BytesIO(data), side, side)
    with pytest.raises(plain_png.NotPlain):
        plain_png.digest(io.BytesIO(good), side, side + 1)
