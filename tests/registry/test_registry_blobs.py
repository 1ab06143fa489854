"""Laws of every blob store, and what only files can break; what only S3 can: the file beside."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.blobs import BlobStore, LocalBlobs, MemoryBlobs
from registry.errors import BlobMissing, InvalidDigest

ABSENT = "0" * 64


@pytest.fixture(params=["local", "memory", pytest.param("s3", marks=pytest.mark.s3)])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """An empty store of each kind."""
    if request.param == "s3":
        store: BlobStore = request.getfixturevalue("bucket")
        return store
    return LocalBlobs(tmp_path / "blobs") if request.param == "local" else MemoryBlobs()


def read(blobs: BlobStore, digest: str) -> bytes:
    with blobs.open(digest) as file:
        return file.read()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@given(data=st.binary(max_size=200))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_put_is_what_is_read(blobs: BlobStore, data: bytes) -> None:
    digest = blobs.put(data)
    assert digest == hashlib.sha256(data).hexdigest()
    assert blobs.put(data) == digest
    assert read(blobs, digest) == data
    assert blobs.size(digest) == len(data)
    assert blobs.exists(digest)


def test_a_file_moves_in(blobs: BlobStore, tmp_path: Path) -> None:
    for _ in range(2):
        path = tmp_path / "made.bin"
        path.write_bytes(b"abc")
        digest = blobs.put_file(path)
        assert digest == blobs.put(b"abc")
        assert read(blobs, digest) == b"abc"
        assert not path.exists()


def test_every_blob_is_listed_once(blobs: BlobStore) -> None:
    assert list(blobs.digests()) == []
    put = {blobs.put(bytes([number])) for number in range(20)}
    listed = list(blobs.digests())
    assert len(listed) == len(put)
    assert set(listed) == put


def test_delete_is_idempotent_and_leaves_the_others(blobs: BlobStore) -> None:
    gone, kept = blobs.put(b"gone"), blobs.put(b"kept")
    with blobs.open(gone) as file:
        for _ in range(2):
            blobs.delete(gone)
        assert file.read() == b"gone"
    assert not blobs.exists(gone)
    assert list(blobs.digests()) == [kept]


@pytest.mark.parametrize("ask", ["open", "size"])
def test_what_is_not_there_is_missing(blobs: BlobStore, ask: str) -> None:
    with pytest.raises(BlobMissing) as caught:
        getattr(blobs, ask)(ABSENT)
    assert caught.value.digest == ABSENT
    assert not blobs.exists(ABSENT)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a",
        "../" * 21 + "x",
        "/etc/passwd",
        "A" * 64,
        "g" * 64,
        "a" * 63,
        "a" * 65,
        "a" * 64 + "\n",
    ],
)
@pytest.mark.parametrize("ask", ["open", "size", "exists", "delete"])
def test_a_name_is_never_a_path(blobs: BlobStore, ask: str, name: str) -> None:
    with pytest.raises(InvalidDigest):
        getattr(blobs, ask)(name)


@pytest.mark.parametrize("size", [6, 3 * 2**20])
def test_a_reader_can_seek(blobs: BlobStore, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    with blobs.open(blobs.put(data)) as file:
        assert file.seekable()
        assert file.read(2) == data[:2]
        for place in (3, len(data) - 3, 1):
            assert file.seek(place) == place
            assert file.read(2) == data[place : place + 2]
            assert file.tell() == place + 2
        assert file.seek(-4, io.SEEK_END) == len(data) - 4
        assert file.read() == data[-4:]
        assert file.read() == b""
        file.seek(len(data) + 9)
        assert file.read(1) == b""


def test_a_store_that_is_there_says_so(blobs: BlobStore) -> None:
    blobs.check()


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = LocalBlobs(tmp_path)

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        blobs.put(b"abc")
    assert files(tmp_path) == []


def test_content_is_on_the_disk_before_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = LocalBlobs(tmp_path)
    named_at_sync: list[bool] = []
    real = os.fsync

    def watch(handle: int) -> None:
        named_at_sync.append(blobs.exists(hashlib.sha256(b"abc").hexdigest()))
        real(handle)

    monkeypatch.setattr(os, "fsync", watch)
    blobs.put(b"abc")
    # The content and two new folders without the name, then the folder with it.
    assert named_at_sync == [False, False, False, True]


def test_a_file_of_another_filesystem_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = LocalBlobs(tmp_path / "blobs")
    path = tmp_path / "made.bin"
    path.write_bytes(b"x" * 100_000)
    real = Path.rename

    def rename(source: Path, target: Path) -> Path:
        if source == path:
            raise OSError(errno.EXDEV, "another filesystem")
        return real(source, target)

    monkeypatch.setattr(Path, "rename", rename)
    digest = blobs.put_file(path)
    assert read(blobs, digest) == b"x" * 100_000
    assert [file.name for file in files(tmp_path)] == [digest]


def test_many_may_put_the_same_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    digests: list[str] = []

    def put() -> None:
        digests.extend(LocalBlobs(folder).put(b"same" * 1000) for _ in range(5))

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 20
    assert [file.name for file in files(folder)] == [digests[0]]


def test_another_store_of_the_same_folder_sees_the_same(tmp_path: Path) -> None:
    digest = LocalBlobs(tmp_path).put(b"abc")
    assert read(LocalBlobs(tmp_path), digest) == b"abc"


def test_what_is_half_written_is_no_blob(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    digest = blobs.put(b"abc")
    (tmp_path / digest[:2] / digest[2:4] / ".incoming-x").write_bytes(b"half")
    assert list(blobs.digests()) == [digest]


def test_blobs_are_stale_once_they_are_older_than_that(blobs: BlobStore) -> None:
    put = {blobs.put(bytes([number])) for number in range(3)}
    now = datetime.now(UTC)
    assert set(blobs.stale(now + timedelta(hours=1))) == put
    assert set(blobs.stale(now - timedelta(hours=1))) == set()


def test_what_a_crash_left_half_written_is_swept_and_nothing_else(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    kept = blobs.put(b"kept")
    (tmp_path / ".incoming-old").write_bytes(b"half")
    (tmp_path / "other").write_bytes(b"none of ours")
    now = datetime.now(UTC)
    blobs.sweep(now - timedelta(hours=1))
    assert (tmp_path / ".incoming-old").exists(), "it may be in the making"
    for _ in range(2):
        blobs.sweep(now + timedelta(hours=1))
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["other"]
    assert blobs.exists(kept)
