"""Every way to get ``POST /unlearn`` wrong: the right answer, and not a trace of the request."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from front_world import (
    MODEL,
    SECRET_NAME,
    World,
    as_files,
    encoded,
    fields,
    pictures,
    register,
    several,
    world,
)
from PIL import Image

from api_schemas.families import Family
from api_schemas.problems import MEDIA_TYPE, Problem
from service import logs

MAX_BODY = 400_000
MAX_SAMPLE = 20_000
OTHER_FAMILY = "painter"


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One front for the whole table: each case leaves it as it was."""
    root: Path = tmp_path_factory.mktemp("bad-input")
    limits = {"max_body_bytes": MAX_BODY, "max_sample_bytes": MAX_SAMPLE, "max_image_side": 3000}
    with world(root, **limits, max_image_pixels=1_000_000) as made:
        register(made, OTHER_FAMILY, Family.DIFFUSION)
        yield made


@pytest.fixture
def http(front: World) -> TestClient:
    assert front.http is not None
    return front.http


def header_only_png(width: int, height: int) -> bytes:
    """A PNG that announces this size and holds nothing: decoding it would be the accident."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b""))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def animated(image_format: str) -> bytes:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    return encoded(frames[0], image_format, save_all=True, append_images=frames[1:])


def truncated(image_format: str) -> bytes:
    noise = Image.effect_noise((64, 64), 90).convert("RGB")
    whole = encoded(noise, image_format)
    return whole[: len(whole) // 2]


@dataclass
class Case:
    """What is sent, and the problem it is."""

    name: str
    send: dict[str, Any]
    status: int
    slug: str
    pointers: list[str] = field(default_factory=list)


def form(samples: list[bytes], text: str | None = None, **changes: Any) -> dict[str, Any]:
    request = json.dumps(fields(**changes)) if text is None else text
    # As a part without a file name: so the body is multipart even when there are no files.
    return {"files": [("request", (None, request, "application/json")), *as_files(samples)]}


def good_form(**changes: Any) -> dict[str, Any]:
    return form(pictures(3), **changes)


def one_bad(sample: bytes) -> dict[str, Any]:
    return form([*pictures(3), sample])


def json_body(**changes: Any) -> dict[str, Any]:
    samples = [base64.b64encode(sample).decode() for sample in pictures(3)]
    return {"json": fields(samples=samples) | changes}


def raw(content: bytes, content_type: str, **headers: str) -> dict[str, Any]:
    return {"content": content, "headers": {"Content-Type": content_type, **headers}}


SAMPLES = "invalid-samples"
INVALID = "invalid-request"
NAME = ["/target/name"]

CASES = [
    # The pictures.
    Case("no samples", form([]), 422, SAMPLES, ["/samples"]),
    Case("too few", form(pictures(2)), 422, SAMPLES, ["/samples"]),
    Case("too many", form(pictures(51)), 422, SAMPLES, ["/samples"]),
    Case("no samples in JSON", json_body(samples=[]), 422, SAMPLES, ["/samples"]),
    Case(
        "too many probes",
        {
            "data": {"request": json.dumps(fields())},
            "files": as_files(pictures(3), [pictures(1)[0]] * 201),
        },
        422,
        SAMPLES,
        ["/probe_samples"],
    ),
    Case("empty file", one_bad(b""), 422, SAMPLES, ["/samples/3"]),
    Case("too many bytes", one_bad(bytes(MAX_SAMPLE + 1)), 422, SAMPLES, ["/samples/3"]),
    Case("text called .jpg", one_bad(b"just some text"), 422, SAMPLES, ["/samples/3"]),
    Case("another format", one_bad(encoded(Image.new("RGB", (8, 8)), "GIF")), 422, SAMPLES,
         ["/samples/3"]),
    Case("truncated PNG", one_bad(truncated("PNG")), 422, SAMPLES, ["/samples/3"]),
    Case("truncated JPEG", one_bad(truncated("JPEG")), 422, SAMPLES, ["/samples/3"]),
    Case("truncated WEBP", one_bad(truncated("WEBP")), 422, SAMPLES, ["/samples/3"]),
    Case("animated PNG", one_bad(animated("PNG")), 422, SAMPLES, ["/samples/3"]),
    Case("animated WEBP", one_bad(animated("WEBP")), 422, SAMPLES, ["/samples/3"]),
    Case("bomb", one_bad(header_only_png(60_000, 60_000)), 422, SAMPLES, ["/samples/3"]),
    Case("many pixels", one_bad(header_only_png(2000, 2000)), 422, SAMPLES, ["/samples/3"]),
    Case("long side", one_bad(header_only_png(3001, 1)), 422, SAMPLES, ["/samples/3"]),
    Case("duplicate", form([*pictures(3), pictures(1)[0]]), 422, SAMPLES, ["/samples/3"]),
    Case(
        "a sample that is also a probe",
        {
            "data": {"request": json.dumps(fields())},
            "files": as_files(pictures(3), pictures(1)),
        },
        422,
        SAMPLES,
        ["/probe_samples/0"],
    ),
    Case(
        "two at once",
        form([b"no picture", *pictures(3), b""]),
        422,
        SAMPLES,
        ["/samples/0", "/samples/4"],
    ),
    Case("bad base64", json_body(samples=["a", "b", "c"]), 422, INVALID,
         ["/samples/0", "/samples/1", "/samples/2"]),
    Case("base64 of nothing", json_body(samples=["!!!!"] * 3), 422, SAMPLES,
         ["/samples/0", "/samples/1", "/samples/2"]),
    # Whose pictures they are.
    Case("a number that is too high", good_form(target={"name": "A", "samples": 4}), 422, SAMPLES,
         ["/target/samples"]),
    Case("a number that is too low", form(pictures(4), target={"name": "A", "samples": 3}), 422,
         SAMPLES, ["/samples"]),
    Case("probes that are missing", good_form(target={"name": "A", "probe_samples": 1}), 422,
         SAMPLES, ["/target/probe_samples"]),
    Case("the second target goes short", form(pictures(6), targets=several(3, 4)), 422, SAMPLES,
         ["/targets/1/samples"]),
    Case("the first target goes short", form(pictures(3), targets=several(4, 3)), 422, SAMPLES,
         ["/targets/0/samples"]),
    Case("pictures of nobody", form(pictures(7), targets=several(3, 3)), 422, SAMPLES,
         ["/samples"]),
    Case("both short in JSON", json_body(targets=several(3, 3, probe_samples=1), target=None), 422,
         SAMPLES, ["/targets/1/samples", "/targets/1/probe_samples"]),
    Case("probes of nobody", {"data": {"request": json.dumps(fields(targets=several(3, 3)))},
         "files": as_files(pictures(6), pictures(7)[6:])}, 422, SAMPLES, ["/probe_samples"]),
    Case("no number in a list", form(pictures(6), targets=several(3, 3, samples=None)), 422,
         INVALID, ["/targets/1/samples"]),
    Case("too few of one target", form(pictures(6), targets=several(4, 2)), 422, INVALID,
         ["/targets/1/samples"]),
    Case("too many of one target", form(pictures(54), targets=several(51, 3)), 422, INVALID,
         ["/targets/0/samples"]),
    Case("one name twice", form(pictures(6), targets=several(
         3, 3, aliases=[f"{SECRET_NAME} 0".upper()])), 422, INVALID, ["/targets/1"]),
    Case("too many targets", form(pictures(27), targets=several(*[3] * 9)), 422, INVALID,
         ["/targets"]),
    Case("no target in the list", good_form(targets=[]), 422, INVALID, ["/target"]),
    Case("a target and a list", good_form(targets=several(3), target={"name": "A"}), 422, INVALID,
         ["/targets"]),
    # Model and method.
    Case("unknown model", good_form(model="nobody-knows"), 422, "unknown-model", ["/model"]),
    Case("a path as model", good_form(model="../../etc"), 422, INVALID, ["/model"]),
    Case("unknown method", good_form(method={"method": SECRET_NAME}), 422, "unknown-method",
         ["/method/method"]),
    Case("no method name", good_form(method={"tau": 0.2}), 422, INVALID, ["/method/method"]),
    Case("method out of range", good_form(method={"method": "razor", "tau": 2}), 422, INVALID,
         ["/method/tau"]),
    Case("unknown parameter", good_form(method={"method": "razor", "tao": 2}), 422, INVALID,
         ["/method/tao"]),
    Case("method for another family", good_form(model=OTHER_FAMILY, method={"method": "gaft"}), 422,
         "unsupported-method", ["/method/method"]),
    # The other fields.
    Case("empty name", good_form(target={"name": ""}), 422, INVALID, NAME),
    Case("blank name", good_form(target={"name": "  "}), 422, INVALID, NAME),
    Case("long name", good_form(target={"name": "Q" * 10_000}), 422, INVALID, NAME),
    Case("control character", good_form(target={"name": "Q\x00V"}), 422, INVALID, NAME),
    Case("escape in name", good_form(target={"name": "Q\x1b[31m"}), 422, INVALID, NAME),
    Case("bad alias", good_form(target={"name": "A", "aliases": ["B", ""]}), 422, INVALID,
         ["/target/aliases/1"]),
    Case("unknown kind", good_form(target={"name": "A", "kind": SECRET_NAME}), 422, INVALID,
         ["/target/kind"]),
    Case("unknown field", good_form(modle="x"), 422, INVALID, ["/modle"]),
    Case("unknown field in JSON", json_body(modle="x"), 422, INVALID, ["/modle"]),
    Case("a name as field", good_form(target={"name": "A", SECRET_NAME: 1}), 422, INVALID,
         ["/target"]),
    Case("a name as key", good_form(metadata={SECRET_NAME: "x"}), 422, INVALID, ["/metadata"]),
    Case("missing field", form(pictures(3), json.dumps({"model": MODEL})), 422, INVALID,
         ["/target"]),
    Case("deadline without zone", good_form(due_at="2031-01-01T00:00:00"), 422, INVALID,
         ["/due_at"]),
    Case("not a number", form(pictures(3), json.dumps(fields(
        method={"method": "razor", "tau": float("nan")}))), 422, INVALID, ["/method/tau"]),
    Case("a list", form(pictures(3), "[]"), 422, INVALID, [""]),
    # The body.
    Case("broken JSON part", form(pictures(3), "{" + SECRET_NAME), 400, "malformed-json"),
    Case("broken JSON", raw(b"{", "application/json"), 400, "malformed-json"),
    Case("empty JSON", raw(b"", "application/json"), 400, "malformed-json"),
    Case("not UTF-8", raw(b'{"model": "\xff"}', "application/json"), 400, "malformed-json"),
    Case("deep JSON", raw(b"[" * 50_000, "application/json"), 400, "malformed-json"),
    Case("no request part", {"files": as_files(pictures(3))}, 422, INVALID, ["/request"]),
    Case("two request parts", {"files": [("request", ("a", b"{}")), ("request", ("b", b"{}")),
         *as_files(pictures(3))]}, 422, INVALID, ["/request"]),
    Case("unknown part", {"files": [*good_form()["files"], ("photos", ("a", b""))]},
         422, INVALID, ["/photos"]),
    Case("a name as part", {"files": [*good_form()["files"], (SECRET_NAME, ("a", b""))]},
         422, INVALID, [""]),
    Case("sample that is no file", {"data": {"request": json.dumps(fields()), "samples": "x"},
         "files": as_files(pictures(3))}, 422, INVALID, ["/samples"]),
    Case("no boundary", raw(b"x", "multipart/form-data"), 400, "malformed-multipart"),
    Case("broken multipart", raw(b"--x\r\nno header", "multipart/form-data; boundary=x"), 400,
         "malformed-multipart"),
    Case("long field", form(pictures(3), " " * MAX_BODY), 413, "body-too-large"),
    Case("form without files", {"data": {"request": "{}"}}, 415, "unsupported-media-type"),
    Case("plain text", raw(b"hello", "text/plain"), 415, "unsupported-media-type"),
    Case("no content type", {"content": b"{}"}, 415, "unsupported-media-type"),
    Case("compressed", raw(b"{}", "application/json", **{"Content-Encoding": "gzip"}), 415,
         "unsupported-media-type"),
    Case("declared too long", raw(bytes(MAX_BODY + 1), "application/json"), 413,
         "body-too-large"),
    Case("empty key", {**good_form(), "headers": {"Idempotency-Key": ""}}, 400,
         "invalid-idempotency-key"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_bad_request_is_answered_clearly_and_leaves_no_trace(
    front: World, http: TestClient, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    before = front.stored()
    answer = http.post("/unlearn", **case.send)
    assert answer.status_code == case.status, answer.text
    assert answer.headers["content-type"] == MEDIA_TYPE
    problem = Problem.model_validate_json(answer.content)
    assert problem.type == f"/problems/{case.slug}"
    assert problem.status == case.status
    assert [wrong.pointer for wrong in problem.errors] == case.pointers
    assert problem.request_id == answer.headers["x-request-id"]
    assert not problem.retryable
    assert all(wrong.detail and wrong.code for wrong in problem.errors)
    assert front.stored() == before
    assert not front.parts.broker.sent
    logged = "".join(logs.JsonLines().format(record) for record in caplog.records)
    assert "razor.http" in logged
    for part in SECRET_NAME.split():
        assert part not in answer.text
        assert part not in logged


def test_the_good_request_beside_them_is_accepted(tmp_path: Path) -> None:
    """The negative control: what the cases start from is right, and would leave traces."""
    with world(tmp_path, max_body_bytes=MAX_BODY, max_sample_bytes=MAX_SAMPLE) as made:
        before = made.stored()
        for send in (good_form(), json_body()):
            assert made.http is not None
            assert made.http.post("/unlearn", **send).status_code == 202
        assert made.stored() != before
        assert SECRET_NAME in repr(
            made.job(made.http.get("/jobs").json()["items"][0]["id"]).request
        )
