"""Patch files and patched weights: every byte, any range, strong tags."""

from __future__ import annotations

import random

import pytest
from fastapi.testclient import TestClient
from front_world import World, sha256
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from api_schemas.patches import PatchView
from api_schemas.reports import Verdict
from patches import container
from registry.jobs import Job
from service import downloads
from service.downloads import Download
from service.errors import RangeNotSatisfiable


def address(job: Job, name: str = "") -> str:
    return f"/patches/{job.patch_id}{name}"


def test_a_patch_shows_its_manifest(front: World, http: TestClient) -> None:
    job = front.finished()
    answer = http.get(address(job))
    view = PatchView.model_validate(answer.json())
    assert (view.id, view.job_id, view.published, view.model_version) == (
        job.patch_id,
        job.id,
        True,
        1,
    )
    tag = {"If-None-Match": answer.headers["etag"]}
    assert http.get(address(job), headers=tag).status_code == 304


def test_the_patch_file_is_the_one_of_the_manifest(front: World, http: TestClient) -> None:
    job = front.finished()
    manifest = http.get(address(job)).json()["manifest"]
    answer = http.get(address(job, "/patch.safetensors"))
    assert answer.status_code == 200
    assert sha256(answer.content) == manifest["patch_sha256"]
    assert len(answer.content) == manifest["patch_bytes"]
    assert answer.headers["etag"] == f'"{manifest["patch_sha256"]}"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-disposition"] == (
        f'attachment; filename="{job.patch_id}.safetensors"'
    )


def test_weights_are_the_checkpoint_with_the_whole_line_in_place(
    front: World, http: TestClient
) -> None:
    first, second = front.finished(), front.finished()
    refused = front.finished(Verdict.FAIL)
    third = front.finished()
    for number, job in ((1, first), (2, second), (3, refused), (3, third)):
        answer = http.get(address(job, "/weights"))
        assert answer.status_code == 200
        assert answer.content == front.expected_weights(number)
    base = (front.checkpoint / "model.safetensors").read_bytes()
    assert front.expected_weights(1) != base
    tags = {http.head(address(job, "/weights")).headers["etag"] for job in (first, second, refused)}
    assert len(tags) == 3


def test_weights_of_several_files_come_as_a_tar(front: World, http: TestClient) -> None:
    other = {"x": container.TensorData("F32", (1,), bytes(4))}
    container.write(front.checkpoint / "other.safetensors", other, {})
    answer = http.get(address(front.finished(), "/weights"))
    assert answer.headers["content-type"] == "application/x-tar"
    assert answer.headers["content-disposition"].endswith('.tar"')
    assert front.expected_weights(1) in answer.content


@pytest.mark.parametrize("name", ["/patch.safetensors", "/weights"])
def test_files_answer_heads_tags_and_ranges(front: World, http: TestClient, name: str) -> None:
    path = address(front.finished(), name)
    whole = http.get(path)
    size, tag = len(whole.content), whole.headers["etag"]
    head = http.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for header in ("etag", "content-length", "content-type", "content-disposition"):
        assert head.headers[header] == whole.headers[header]
    unchanged = http.get(path, headers={"If-None-Match": tag})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert http.head(path, headers={"If-None-Match": "*"}).status_code == 304
    part = http.get(path, headers={"Range": "bytes=5-9", "If-Range": tag})
    assert (part.status_code, part.content) == (206, whole.content[5:10])
    assert part.headers["content-range"] == f"bytes 5-9/{size}"
    assert part.headers["content-length"] == "5"
    assert http.head(path, headers={"Range": "bytes=5-9"}).status_code == 200
    changed = http.get(path, headers={"Range": "bytes=5-9", "If-Range": '"another"'})
    assert (changed.status_code, changed.content) == (200, whole.content)
    beyond = http.get(path, headers={"Range": f"bytes={size}-"})
    assert beyond.status_code == 416
    assert beyond.headers["content-range"] == f"bytes */{size}"
    assert beyond.json()["type"] == "/problems/range-not-satisfiable"


DATA = bytes(random.Random(1).randbytes(300))


def answered(header: str, data: bytes = DATA) -> tuple[int, bytes]:
    scope = {"type": "http", "method": "GET", "headers": [(b"range", header.encode())]}
    download = Download(
        etag='"x"',
        size=len(data),
        media_type=downloads.BINARY,
        file_name="x",
        read=lambda start, stop: iter([data[start:stop]]),
    )
    asked = downloads._asked_range(Request(scope), download)
    return (200, data) if asked is None else (206, b"".join(download.read(*asked)))


@given(first=st.integers(0, 400), last=st.integers(0, 400))
def test_ranges_are_what_rfc_9110_says(first: int, last: int) -> None:
    if last < first:
        assert answered(f"bytes={first}-{last}") == (200, DATA)
    elif first >= len(DATA):
        with pytest.raises(RangeNotSatisfiable):
            answered(f"bytes={first}-{last}")
    else:
        assert answered(f"bytes={first}-{last}") == (206, DATA[first : last + 1])
        assert answered(f"BYTES={first}-") == (206, DATA[first:])


@given(last=st.integers(1, 400))
def test_suffix_ranges_are_counted_from_the_end(last: int) -> None:
    assert answered(f"bytes=-{last}") == (206, DATA[-last:])


@pytest.mark.parametrize("header", ["bytes=-0", "bytes=300-", "bytes=999999999999999999-"])
def test_ranges_beyond_the_end_are_refused(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        answered(header)


@pytest.mark.parametrize(
    "header",
    ["", "bytes=-", "bytes=1-2,4-5", "items=1-2", "bytes=a-b", "bytes=1", "bytes=" + "9" * 5000],
)
def test_other_ranges_are_answered_with_the_whole_file(header: str) -> None:
    assert answered(header) == (200, DATA)


def test_a_missing_blob_is_told_before_the_first_byte(front: World, http: TestClient) -> None:
    job = front.finished()
    front.parts.blobs.delete(http.get(address(job)).json()["manifest"]["patch_sha256"])
    for name in ("/patch.safetensors", "/weights"):
        answer = http.get(address(job, name))
        assert (answer.status_code, answer.json()["type"]) == (500, "/problems/artifact-missing")


def test_a_changed_checkpoint_is_told_before_the_first_byte(front: World, http: TestClient) -> None:
    job = front.finished()
    (front.checkpoint / "model.safetensors").write_bytes(b"no weights")
    answer = http.get(address(job, "/weights"))
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/artifact-unusable")
    assert str(front.root) not in answer.text
