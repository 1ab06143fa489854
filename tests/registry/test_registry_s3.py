"""What only a store behind a network can break. The laws of every store: test_registry_blobs."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from registry import failpoints
from registry import s3 as module
from registry.blobs import LocalBlobs
from registry.errors import (
    BlobMissing,
    BucketMissing,
    StoreDenied,
    StoreFailed,
    StoreLibraryMissing,
    StoreUnreachable,
)
from registry.s3 import S3Blobs
from registry.settings import Settings
from registry.stores import store_of
from tests.s3_server import S3Server

pytestmark = pytest.mark.s3

ABSENT = "0" * 64
#: The server writes this moment on every upload, whenever it was begun.
BEGUN = datetime(2010, 11, 10, 20, 48, 33, tzinfo=UTC)
#: One process puts a file of four parts and reads it again; prints what that took of memory.
STREAM = """
import hashlib, pathlib, resource, sys
from registry.s3 import S3Blobs
path, url = pathlib.Path(sys.argv[1]), sys.argv[2]
store = S3Blobs(url)
store.put(b"warm"); store.open(store.put(b"warm")).read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
digest = store.put_file(path)
put = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = hashlib.sha256()
with store.open(digest) as file:
    while data := file.read(2**18):
        found.update(data)
assert found.hexdigest() == digest
print(before, put, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def bucket_of(store: S3Blobs) -> str:
    return store._bucket


def keys(s3: S3Server, store: S3Blobs) -> list[str]:
    found = s3.client().list_objects_v2(Bucket=bucket_of(store)).get("Contents", ())
    return [each["Key"] for each in found]


def uploads(s3: S3Server, store: S3Blobs) -> list[str]:
    found = s3.client().list_multipart_uploads(Bucket=bucket_of(store)).get("Uploads", ())
    return [each["Key"] for each in found]


def test_a_large_file_goes_up_in_parts_and_comes_back(
    bucket: S3Blobs, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART_BYTES", 5 * 2**20)
    data = random.Random(7).randbytes(12 * 2**20)
    path = tmp_path / "patch"
    path.write_bytes(data)
    digest = bucket.put_file(path)
    assert not path.exists()
    assert (
        s3.client()
        .head_object(Bucket=bucket_of(bucket), Key=keys(s3, bucket)[0])["ETag"]
        .endswith('-3"')
    )  # three parts
    with bucket.open(digest) as file:
        assert file.read() == data
        file.seek(7 * 2**20)
        assert file.read(100) == data[7 * 2**20 : 7 * 2**20 + 100]
    assert uploads(s3, bucket) == []


def test_memory_does_not_grow_with_the_blob(bucket: S3Blobs, s3: S3Server, tmp_path: Path) -> None:
    path = tmp_path / "patch"
    size = 8 * module.PART_BYTES
    with path.open("wb") as file:
        file.truncate(size)
    done = subprocess.run(
        [sys.executable, "-c", STREAM, str(path), f"s3://{bucket_of(bucket)}"],
        env=os.environ | s3.variables,
        capture_output=True,
        text=True,
        check=True,
    )
    before, put, got = (int(number) * 1024 for number in done.stdout.split())
    # A part, and the copies that the library makes of it.
    assert put - before < 3.5 * module.PART_BYTES
    assert got - put < module.PART_BYTES


@pytest.mark.parametrize("size", [10, 11 * 2**20], ids=["whole", "in parts"])
def test_the_point_before_a_name_is_met_right_before_the_blob_appears(
    bucket: S3Blobs, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART_BYTES", 5 * 2**20)
    seen: list[tuple[failpoints.Point, list[str]]] = []

    def reach(point: failpoints.Point) -> None:
        seen.append((point, list(bucket.digests())))

    monkeypatch.setattr(failpoints, "reach", reach)
    path = tmp_path / "patch"
    path.write_bytes(bytes(size))
    digest = bucket.put_file(path)
    assert seen == [(failpoints.Point.BEFORE_RENAME, [])]
    assert list(bucket.digests()) == [digest]


def test_an_upload_that_fails_leaves_nothing_and_keeps_the_file(
    bucket: S3Blobs, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART_BYTES", 5 * 2**20)
    path = tmp_path / "patch"
    path.write_bytes(bytes(11 * 2**20))
    real = bucket._client.upload_part

    def upload_part(**arguments: Any) -> Any:
        if arguments["PartNumber"] == 2:
            raise KeyboardInterrupt
        return real(**arguments)

    monkeypatch.setattr(bucket._client, "upload_part", upload_part)
    with pytest.raises(KeyboardInterrupt):
        bucket.put_file(path)
    assert path.exists()
    assert list(bucket.digests()) == []
    assert uploads(s3, bucket) == []


def test_half_an_upload_is_no_blob_and_is_swept_once_it_is_old(
    bucket: S3Blobs, s3: S3Server
) -> None:
    client, place = s3.client(), {"Bucket": bucket_of(bucket)}
    half = bucket._key("1" * 64)
    upload = client.create_multipart_upload(**place, Key=half)["UploadId"]
    client.upload_part(**place, Key=half, UploadId=upload, PartNumber=1, Body=b"half")
    client.create_multipart_upload(**place, Key="some/prefix/none-of-ours")
    kept = bucket.put(b"kept")
    assert not bucket.exists("1" * 64)
    assert list(bucket.digests()) == [kept]
    bucket.sweep(BEGUN - timedelta(seconds=1))
    assert half in uploads(s3, bucket), "it may be in the making"
    for _ in range(2):
        bucket.sweep(BEGUN + timedelta(seconds=1))
        assert uploads(s3, bucket) == ["some/prefix/none-of-ours"]
    assert bucket.exists(kept)


def test_what_others_keep_in_the_bucket_is_none_of_ours(bucket: S3Blobs, s3: S3Server) -> None:
    client, mine = s3.client(), bucket.put(b"mine")
    other = S3Blobs(f"s3://{bucket_of(bucket)}/some")
    theirs = other.put(b"theirs")
    for key in ("readme", f"some/prefix/{ABSENT}", f"some/prefix/ab/cd/{ABSENT}"):
        client.put_object(Bucket=bucket_of(bucket), Key=key, Body=b"x")
    assert list(bucket.digests()) == [mine]
    assert list(bucket.stale(datetime.now(UTC) + timedelta(hours=1))) == [mine]
    assert list(other.digests()) == [theirs]


class Breaks:
    """A body whose line breaks after some bytes, the first few times."""

    def __init__(self, body: Any, count: int) -> None:
        self._body, self._left = body, count

    def read(self, count: int) -> bytes:
        from botocore.exceptions import ReadTimeoutError

        if not self._left:
            raise ReadTimeoutError(endpoint_url="none")
        data: bytes = self._body.read(min(count, self._left))
        self._left -= len(data)
        return data

    def close(self) -> None:
        self._body.close()


@pytest.mark.parametrize("times", [1, 3, 40])
def test_a_read_that_breaks_off_goes_on_where_it_broke(
    bucket: S3Blobs, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_SECONDS", 0.0)
    data = random.Random(7).randbytes(3 * 2**20)
    digest = bucket.put(data)
    real, left = bucket._client.get_object, [times]

    def get_object(**arguments: Any) -> Any:
        answer = real(**arguments)
        if left[0]:
            left[0] -= 1
            answer["Body"] = Breaks(answer["Body"], 1000)
        return answer

    monkeypatch.setattr(bucket._client, "get_object", get_object)
    with bucket.open(digest) as file:
        assert file.read() == data


def test_a_read_that_never_gets_on_is_given_up(
    bucket: S3Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_SECONDS", 0.0)
    digest = bucket.put(bytes(3 * 2**20))
    real = bucket._client.get_object

    def get_object(**arguments: Any) -> Any:
        answer = real(**arguments)
        answer["Body"] = Breaks(answer["Body"], 0)
        return answer

    monkeypatch.setattr(bucket._client, "get_object", get_object)
    with bucket.open(digest) as file, pytest.raises(StoreUnreachable):
        file.read()


def test_who_reads_a_blob_that_goes_is_told(bucket: S3Blobs) -> None:
    digest = bucket.put(bytes(3 * 2**20))
    with bucket.open(digest) as file:
        bucket.delete(digest)
        file.seek(2**20)
        with pytest.raises(BlobMissing):
            file.read(1)


CALLS: dict[str, Callable[[S3Blobs], object]] = {
    "put": lambda store: store.put(b"abc"),
    "open": lambda store: store.open(ABSENT),
    "size": lambda store: store.size(ABSENT),
    "exists": lambda store: store.exists(ABSENT),
    "delete": lambda store: store.delete(ABSENT),
    "digests": lambda store: list(store.digests()),
    "sweep": lambda store: store.sweep(datetime.now(UTC)),
    "check": lambda store: store.check(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_bucket_that_is_not_there_is_named_as_the_fault(
    bucket: S3Blobs, call: Callable[[S3Blobs], object]
) -> None:
    with pytest.raises(BucketMissing, match="RAZOR_BLOBS_URL"):
        call(S3Blobs(f"s3://razor-{uuid.uuid4().hex}"))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_wrong_credentials_are_named_as_the_fault(
    bucket: S3Blobs, call: Callable[[S3Blobs], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StoreDenied) as caught:
        call(S3Blobs(f"s3://{bucket_of(bucket)}"))
    assert "wrong" not in str(caught.value) + repr(caught.value.__cause__)


def test_no_credentials_are_named_as_the_fault(
    bucket: S3Blobs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreDenied, match="credentials"):
        S3Blobs(f"s3://{bucket_of(bucket)}").put(b"abc")


def test_credentials_may_come_from_a_file(
    bucket: S3Blobs, s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    file.write_text(
        f"[default]\naws_access_key_id = {s3.key_id}\naws_secret_access_key = {s3.secret}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    S3Blobs(f"s3://{bucket_of(bucket)}").check()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_store_that_is_down_is_named_as_the_fault(
    bucket: S3Blobs, call: Callable[[S3Blobs], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setattr(module, "TRIES", 1)
    with pytest.raises(StoreUnreachable, match="AWS_ENDPOINT_URL_S3"):
        call(S3Blobs(f"s3://{bucket_of(bucket)}"))


def test_a_store_that_says_nothing_is_given_up_in_time(
    bucket: S3Blobs, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.2)
    store = S3Blobs(f"s3://{bucket_of(bucket)}")
    store.check()
    s3.pause()
    try:
        with pytest.raises(StoreUnreachable):
            store.check()
    finally:
        s3.go_on()
    store.check()


def test_a_short_outage_is_bridged(bucket: S3Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library sends again what was answered with 503; without a second try, it fails."""
    asked = []

    def busy(request: Any, **_: object) -> Any:
        from botocore.awsrequest import AWSResponse

        asked.append(request.url)
        if len(asked) > 1:
            return None
        raw: Any = io.BytesIO(b"<Error><Code>SlowDown</Code></Error>")
        raw.stream = lambda **_: iter([raw.getvalue()])
        return AWSResponse(request.url, 503, {}, raw)

    for tries in (2, 1):
        asked.clear()
        monkeypatch.setattr(module, "TRIES", tries)
        store = S3Blobs(f"s3://{bucket_of(bucket)}/{tries}")
        store._client.meta.events.register_first("before-send.s3", busy)
        if tries == 2:
            assert store.exists(store.put(b"abc"))
        else:
            with pytest.raises(StoreFailed):
                store.put(b"abc")


def test_settings_choose_the_store(
    bucket: S3Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(store_of(Settings(data_folder=tmp_path)), LocalBlobs)
    chosen = Settings(data_folder=tmp_path, blobs_url=f"s3://{bucket_of(bucket)}/some/prefix")
    digest = bucket.put(b"abc")
    assert store_of(chosen).exists(digest)
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(StoreLibraryMissing, match=r"razor-unlearning\[s3\]"):
        store_of(chosen)


@pytest.mark.parametrize(
    "url", ["razor", "http://razor", "s3://", "s3://R/x", "s3://u:secret@razor", "s3:///x"]
)
def test_an_address_of_no_bucket_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="blobs_url") as caught:
        Settings(data_folder=tmp_path, blobs_url=url)
    assert "secret" not in str(caught.value)


def test_the_embedded_default_imports_no_boto3() -> None:
    code = (
        "import sys; from registry.stores import store_of; from registry.settings import Settings;"
        " store_of(Settings()); sys.exit('boto3' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
