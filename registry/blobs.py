"""Bytes named by their own hash: images, patches. What is stored never changes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from registry import failpoints, leftovers
from registry.errors import BlobMissing, InvalidDigest

_DIGEST = re.compile(r"[0-9a-f]{64}")
_TEMPORARY = ".incoming-"
#: What a check writes to see whether there is room: about a picture.
_ROOM_BYTES = 2**20


class BlobStore(Protocol):
    """Content-addressed bytes. A digest is the lower-case hex SHA-256 of the content.

    Laws: ``put`` is idempotent and returns the same digest everywhere; a blob is there whole or
    not at all, a crash included. A digest that is none raises ``InvalidDigest``, so that it can
    never be used as a path.
    """

    def put(self, data: bytes) -> str:
        """The bytes are stored and will survive a crash; returns their digest."""
        ...

    def put_file(self, path: Path) -> str:
        """The file's bytes are stored and the file is gone from ``path``; returns the digest."""
        ...

    def open(self, digest: str) -> BinaryIO:
        """The blob, to be read and closed by the caller; seekable. Raises ``BlobMissing``."""
        ...

    def size(self, digest: str) -> int:
        """The blob's length in bytes. Raises ``BlobMissing``."""
        ...

    def exists(self, digest: str) -> bool:
        """Whether the blob is there."""
        ...

    def delete(self, digest: str) -> None:
        """The blob is gone; idempotent. Who has it open may read what they have begun to read."""
        ...

    def digests(self) -> Iterator[str]:
        """The digest of every blob, in no order."""
        ...

    def stale(self, before: datetime) -> Iterator[str]:
        """The digest of every blob that was stored before this moment, in no order."""
        ...

    def sweep(self, before: datetime) -> None:
        """What was begun before this moment and never became a blob is gone; idempotent."""
        ...

    def check(self) -> None:
        """Blobs can be stored and read now, as far as can be told briefly; else some exception."""
        ...


class MemoryBlobs:
    """Blobs in memory, for tests: keeps the laws of ``BlobStore`` except surviving a crash."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}
        self._stored: dict[str, datetime] = {}

    def put(self, data: bytes) -> str:
        """The bytes are stored; returns their digest."""
        digest = hashlib.sha256(data).hexdigest()
        self._blobs[digest] = bytes(data)
        self._stored[digest] = datetime.now(UTC)
        return digest

    def put_file(self, path: Path) -> str:
        """The file's bytes are stored and the file is gone from ``path``; returns the digest."""
        digest = self.put(path.read_bytes())
        path.unlink()
        return digest

    def open(self, digest: str) -> BinaryIO:
        """The blob, to be read and closed by the caller. Raises ``BlobMissing``."""
        return io.BytesIO(self._get(digest))

    def size(self, digest: str) -> int:
        """The blob's length in bytes. Raises ``BlobMissing``."""
        return len(self._get(digest))

    def exists(self, digest: str) -> bool:
        """Whether the blob is there."""
        return checked(digest) in self._blobs

    def delete(self, digest: str) -> None:
        """The blob is gone; idempotent."""
        self._blobs.pop(checked(digest), None)

    def digests(self) -> Iterator[str]:
        """The digest of every blob, in no order."""
        return iter(tuple(self._blobs))

    def stale(self, before: datetime) -> Iterator[str]:
        """The digest of every blob that was stored before this moment."""
        return (digest for digest in self.digests() if self._stored[digest] < before)

    def sweep(self, before: datetime) -> None:
        """Nothing is ever half written."""

    def check(self) -> None:
        """Memory is always there."""

    def _get(self, digest: str) -> bytes:
        try:
            return self._blobs[checked(digest)]
        except KeyError:
            raise BlobMissing(digest) from None


class LocalBlobs:
    """Blobs as files of one folder, safe for many processes: ``ab/cd/abcd...``.

    A blob is written to a temporary name, brought to the disk, and renamed to its digest.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, data: bytes) -> str:
        """The bytes are stored and will survive a crash; returns their digest."""
        digest = hashlib.sha256(data).hexdigest()
        if not self._is_kept(digest):
            with self._incoming() as (file, temporary):
                file.write(data)
                self._keep(file, temporary, digest)
        return digest

    def put_file(self, path: Path) -> str:
        """The file's bytes are stored and the file is gone from ``path``; returns the digest.

        Constant memory. On the folder's own filesystem the file is renamed, elsewhere copied.
        """
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if not self._is_kept(digest):
                self._move_or_copy(file, path, digest)
        path.unlink(missing_ok=True)
        return digest

    def open(self, digest: str) -> BinaryIO:
        """The blob, to be read and closed by the caller; a real file. Raises ``BlobMissing``."""
        try:
            return self._path(digest).open("rb")
        except FileNotFoundError:
            raise BlobMissing(digest) from None

    def size(self, digest: str) -> int:
        """The blob's length in bytes. Raises ``BlobMissing``."""
        try:
            return self._path(digest).stat().st_size
        except FileNotFoundError:
            raise BlobMissing(digest) from None

    def exists(self, digest: str) -> bool:
        """Whether the blob is there."""
        return self._path(digest).is_file()

    def delete(self, digest: str) -> None:
        """The blob is gone; idempotent. Who has it open may read on."""
        self._path(digest).unlink(missing_ok=True)

    def digests(self) -> Iterator[str]:
        """The digest of every blob, in no order; what is half written is none."""
        for path in self._folder.glob("??/??/*"):
            if is_digest(path.name):
                yield path.name

    def stale(self, before: datetime) -> Iterator[str]:
        """The digest of every blob that was stored before this moment, in no order."""
        for digest in self.digests():
            try:
                stored = self._path(digest).stat().st_mtime
            except FileNotFoundError:
                continue
            if stored < before.timestamp():
                yield digest

    def sweep(self, before: datetime) -> None:
        """What was begun before this moment and never became a blob is gone; idempotent."""
        leftovers.remove(self._folder, before, f"{_TEMPORARY}*")

    def check(self) -> None:
        """There is room for a picture; what permissions say is not enough. Raises ``OSError``."""
        with tempfile.TemporaryFile(dir=self._folder) as file:
            file.write(bytes(_ROOM_BYTES))
            file.flush()

    def _path(self, digest: str) -> Path:
        checked(digest)
        return self._folder / digest[:2] / digest[2:4] / digest

    def _is_kept(self, digest: str) -> bool:
        """Whether the blob is there and will survive a crash, whoever is still writing it."""
        path = self._path(digest)
        if not path.is_file():
            return False
        _sync_folder(path.parent)
        return True

    @contextlib.contextmanager
    def _incoming(self) -> Iterator[tuple[BinaryIO, Path]]:
        """A temporary file on the blobs' own filesystem, gone at the end unless renamed."""
        handle, name = tempfile.mkstemp(prefix=_TEMPORARY, dir=self._folder)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file, temporary
        finally:
            temporary.unlink(missing_ok=True)

    def _keep(self, file: BinaryIO, temporary: Path, digest: str) -> None:
        """Content first, then the name, then the folder that holds the name: each on the disk."""
        file.flush()
        os.fsync(file.fileno())
        target = self._path(digest)
        for folder in (target.parent.parent, target.parent):
            if not folder.is_dir():
                folder.mkdir(exist_ok=True)
                _sync_folder(folder.parent)
        failpoints.reach(failpoints.Point.BEFORE_RENAME)
        temporary.rename(target)
        _sync_folder(target.parent)

    def _move_or_copy(self, file: BinaryIO, path: Path, digest: str) -> None:
        try:
            self._keep(file, path, digest)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            file.seek(0)
            with self._incoming() as (copy, temporary):
                shutil.copyfileobj(file, copy)
                self._keep(copy, temporary, digest)


def is_digest(text: str) -> bool:
    """Whether a blob can have this name."""
    return _DIGEST.fullmatch(text) is not None


def checked(digest: str) -> str:
    """The digest itself. Raises ``InvalidDigest`` where it is none."""
    if not is_digest(digest):
        raise InvalidDigest
    return digest


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
