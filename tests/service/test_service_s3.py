"""A front whose blobs lie in an S3-compatible store: what came from files comes from there."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from front_world import World, as_files, fields, pictures, sha256, world

from registry.s3 import S3Blobs
from registry.sealing import DataKey
from service import background
from service.parts import now
from tests.s3_server import S3Server

pytestmark = pytest.mark.s3


@pytest.fixture
def far(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A front with a bucket of its own."""
    for name, value in s3.variables.items():
        monkeypatch.setenv(name, value)
    url = f"s3://razor-{uuid.uuid4().hex}/blobs"
    S3Blobs(url).make_bucket()
    with world(tmp_path, blobs_url=url) as made:
        yield made


def http_of(far: World) -> TestClient:
    assert far.http is not None
    return far.http


def post(far: World) -> httpx.Response:
    """A request with three pictures."""
    body = {"request": json.dumps(fields())}
    return http_of(far).post("/unlearn", data=body, files=as_files(pictures(3)))


def without_bucket(far: World, s3: S3Server) -> None:
    """Somebody emptied and removed the bucket."""
    store = far.parts.blobs
    assert isinstance(store, S3Blobs)
    for digest in store.digests():
        store.delete(digest)
    s3.client().delete_bucket(Bucket=store._bucket)


def test_patches_and_weights_stream_from_the_bucket_in_whole_and_in_part(far: World) -> None:
    job, http = far.finished(), http_of(far)
    address = f"/patches/{job.patch_id}"
    digest = http.get(address).json()["manifest"]["patch_sha256"]
    whole = http.get(f"{address}/patch.safetensors")
    assert sha256(whole.content) == digest
    part = http.get(f"{address}/patch.safetensors", headers={"Range": "bytes=5-20"})
    assert (part.status_code, part.content) == (206, whole.content[5:21])
    weights = http.get(f"{address}/weights")
    assert weights.content == far.expected_weights(1)
    tail = http.get(f"{address}/weights", headers={"Range": "bytes=-30"})
    assert (tail.status_code, tail.content) == (206, weights.content[-30:])
    assert not far.parts.settings.blob_folder.exists()


def test_pictures_go_to_the_bucket_sealed_and_are_deleted_there(far: World) -> None:
    job = far.job(post(far).json()["id"])
    for digest in job.samples:
        with far.parts.blobs.open(digest) as file:
            assert file.read(6) == b"RAZOR-"
    http_of(far).post(f"/jobs/{job.id}/cancel")
    deadline = time.monotonic() + 30
    while far.job(job.id).erased_at is None:  # by the front's own loop
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not any(far.parts.blobs.exists(digest) for digest in job.samples)


def test_the_janitor_sweeps_pictures_that_no_job_needs(
    far: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "LEFTOVER_SECONDS", -3600.0)
    blobs = far.parts.blobs
    orphan = blobs.put(DataKey.random().seal_picture(b"orphan"))
    kept = {blobs.put(b"a patch"), *far.job(post(far).json()["id"]).samples}
    assert orphan in set(blobs.stale(now().replace(year=2100)))
    background.sweep(far.parts)
    assert set(blobs.digests()) == kept


def test_without_its_bucket_a_front_says_so_and_accepts_nothing(far: World, s3: S3Server) -> None:
    job, http = far.finished(), http_of(far)
    assert http.get("/readyz").json()["checks"]["storage"] == "ok"
    jobs = far.stored()["jobs"]
    without_bucket(far, s3)
    ready = http.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]["storage"]) == (503, "failed")
    found = http.get(f"/patches/{job.patch_id}/patch.safetensors")
    assert (found.status_code, found.json()["type"]) == (503, "/problems/blob-store-unavailable")
    assert found.json()["retryable"] is True
    refused = post(far)
    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/storage-unavailable")
    assert isinstance(far.parts.blobs, S3Blobs)
    far.parts.blobs.make_bucket()
    assert far.stored()["jobs"] == jobs
