"""Blobs as objects of one bucket of an S3-compatible store, for many machines.

Address, region and credentials are the library's own variables and files, none of which is read or
logged here: ``AWS_ENDPOINT_URL_S3``, ``AWS_DEFAULT_REGION``, ``AWS_SHARED_CREDENTIALS_FILE``,
``AWS_CA_BUNDLE``.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from registry import failpoints
from registry.blobs import checked, is_digest
from registry.errors import (
    BlobMissing,
    BucketMissing,
    StoreDenied,
    StoreFailed,
    StoreLibraryMissing,
    StoreUnreachable,
)

#: One part of an upload, and what an upload holds in memory. S3 takes parts from 5 MiB, at most
#: 10,000 of them.
PART_BYTES: Final = 16 * 2**20
MAX_PARTS: Final = 10_000
#: A blob up to this size comes with the request that opens it, larger ones as they are read.
WHOLE_BYTES: Final = 2**20
READ_BUFFER_BYTES: Final = 2**16
CONNECT_SECONDS: Final = 5
ANSWER_SECONDS: Final = 30
#: How often a request is sent, and how often a read that breaks off is taken up again.
TRIES: Final = 4
PROBE_SECONDS: Final = 2
#: FastAPI's thread pool has 40 threads; each may read a blob.
CONNECTIONS: Final = 50
_FIRST_PAUSE_SECONDS: Final = 0.1

_DENIED: Final = frozenset({401, 403})
_ABSENT: Final = 404
_SERVER_ERRORS: Final = 500


class S3Blobs:
    """Blobs under ``s3://bucket/prefix``: ``prefix/ab/cd/abcd...``, safe for many machines.

    Keeps the laws of ``BlobStore``: an object appears whole when its upload is complete, and the
    store has it on its disks when it says so. Every body is signed by its SHA-256, so the store
    refuses one that changed on its way. Make one per process: it does not survive a fork.

    Methods raise ``BucketMissing``, ``StoreDenied``, ``StoreUnreachable`` after ``TRIES`` tries,
    ``StoreFailed`` for whatever else the store says.
    """

    def __init__(self, url: str) -> None:
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._client = _client(CONNECT_SECONDS, ANSWER_SECONDS, TRIES)
        # Somebody waits for the answer of a probe, so it is asked once.
        self._probe = _client(PROBE_SECONDS, PROBE_SECONDS, 1)

    def put(self, data: bytes) -> str:
        """The bytes are stored and will survive a crash; returns their digest."""
        digest = hashlib.sha256(data).hexdigest()
        self._put(digest, data)
        return digest

    def put_file(self, path: Path) -> str:
        """The file's bytes are stored and the file is gone from ``path``; returns the digest.

        Constant memory: a file that is larger than a part goes up in parts.
        """
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
            file.seek(0)
            if size <= PART_BYTES:
                self._put(digest, file.read())
            else:
                self._put_parts(digest, file, max(PART_BYTES, -(-size // MAX_PARTS)))
        path.unlink(missing_ok=True)
        return digest

    def open(self, digest: str) -> BinaryIO:
        """The blob, to be read and closed by the caller; seekable. Raises ``BlobMissing``.

        Constant memory. Reading on is one request; a seek, or a line that breaks, makes another.
        """
        answer = self._get(digest, 0)
        size = int(answer["ContentLength"])
        reader = _Reader(self, digest, size, answer["Body"])
        if size > WHOLE_BYTES:
            return cast(BinaryIO, io.BufferedReader(reader, READ_BUFFER_BYTES))
        with reader:
            return io.BytesIO(reader.readall())

    def size(self, digest: str) -> int:
        """The blob's length in bytes. Raises ``BlobMissing``."""
        found = self._head(digest)
        if found is None:
            raise BlobMissing(digest)
        return int(found["ContentLength"])

    def exists(self, digest: str) -> bool:
        """Whether the blob is there."""
        return self._head(digest) is not None

    def delete(self, digest: str) -> None:
        """The blob is gone; idempotent. Who has it open may read what is on its way to them."""
        key = self._key(digest)
        with _translated():
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def digests(self) -> Iterator[str]:
        """The digest of every blob, in no order; what is half uploaded is none."""
        return (digest for digest, _ in self._listed())

    def stale(self, before: datetime) -> Iterator[str]:
        """The digest of every blob that was stored before this moment, in no order."""
        return (digest for digest, stored in self._listed() if stored < before)

    def sweep(self, before: datetime) -> None:
        """Uploads that were begun before this moment and never completed are gone; idempotent."""
        for page in self._pages("list_multipart_uploads"):
            for upload in page.get("Uploads", ()):
                if self._digest(upload["Key"]) and upload["Initiated"] < before:
                    self._abort(upload["Key"], upload["UploadId"])

    def check(self) -> None:
        """Whether the bucket answers, asked once and briefly."""
        with _translated():
            self._probe.head_bucket(Bucket=self._bucket)

    def make_bucket(self) -> None:
        """The bucket is there; idempotent."""
        with contextlib.suppress(BucketMissing):
            return self.check()
        region = self._client.meta.region_name
        place = {"CreateBucketConfiguration": {"LocationConstraint": region}}
        # The oldest region has no name here.
        options = {} if region in ("us-east-1", "aws-global") else place
        with _translated():
            self._client.create_bucket(Bucket=self._bucket, **options)

    def _key(self, digest: str) -> str:
        checked(digest)
        return f"{self._prefix}{digest[:2]}/{digest[2:4]}/{digest}"

    def _digest(self, key: str) -> str | None:
        """The digest whose key this is; None for what others keep in the bucket."""
        digest = key.rpartition("/")[2]
        return digest if is_digest(digest) and key == self._key(digest) else None

    def _put(self, digest: str, data: bytes) -> None:
        failpoints.reach(failpoints.Point.BEFORE_RENAME)
        with _translated():
            self._client.put_object(Bucket=self._bucket, Key=self._key(digest), Body=data)

    def _put_parts(self, digest: str, file: BinaryIO, part_bytes: int) -> None:
        place = {"Bucket": self._bucket, "Key": self._key(digest)}
        with _translated():
            place["UploadId"] = self._client.create_multipart_upload(**place)["UploadId"]
        try:
            with _translated():
                parts: list[dict[str, Any]] = []
                while data := file.read(part_bytes):
                    number = len(parts) + 1
                    answer = self._client.upload_part(**place, PartNumber=number, Body=data)
                    parts.append({"PartNumber": number, "ETag": answer["ETag"]})
                failpoints.reach(failpoints.Point.BEFORE_RENAME)
                self._client.complete_multipart_upload(**place, MultipartUpload={"Parts": parts})
        except BaseException:
            with contextlib.suppress(StoreFailed):  # then the sweep does it
                self._abort(place["Key"], place["UploadId"])
            raise

    def _abort(self, key: str, upload: str) -> None:
        # Absent: somebody else aborted or completed it.
        with _translated(absent_is_fine=True):
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload)

    def _get(self, digest: str, start: int) -> dict[str, Any]:
        """The blob from this byte on. Raises ``BlobMissing``."""
        options = {"Range": f"bytes={start}-"} if start else {}
        with _translated(digest):
            return cast(
                dict[str, Any],
                self._client.get_object(Bucket=self._bucket, Key=self._key(digest), **options),
            )

    def _head(self, digest: str) -> dict[str, Any] | None:
        """What the store knows of the blob, None where it is absent."""
        key = self._key(digest)
        with _translated(absent_is_fine=True):
            return cast(dict[str, Any], self._client.head_object(Bucket=self._bucket, Key=key))
        # The answer to HEAD has no body that would say whether it is the bucket that is missing.
        with _translated():
            self._client.head_bucket(Bucket=self._bucket)
        return None

    def _listed(self) -> Iterator[tuple[str, datetime]]:
        for page in self._pages("list_objects_v2"):
            for found in page.get("Contents", ()):
                if digest := self._digest(found["Key"]):
                    yield digest, found["LastModified"]

    def _pages(self, operation: str) -> Iterator[dict[str, Any]]:
        pages = self._client.get_paginator(operation)
        with _translated():
            yield from pages.paginate(Bucket=self._bucket, Prefix=self._prefix)


class _Reader(io.RawIOBase):
    """One blob as a file. What breaks off is taken up again at the byte where it broke."""

    def __init__(self, store: S3Blobs, digest: str, size: int, body: Any) -> None:
        super().__init__()
        self._store, self._digest, self._size = store, digest, size
        self._position = 0
        self._body: Any | None = body

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """The place of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """The next byte is read from there; nothing is asked for yet."""
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        place = starts[whence] + offset
        if place < 0:
            raise ValueError("a blob has no bytes before its first")
        if place != self._position:
            self._let_go()
            self._position = place
        return place

    def readinto(self, buffer: Any) -> int:
        """Some bytes, none at the end."""
        if self._position >= self._size or not len(buffer):
            return 0
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        """Nothing comes any more."""
        self._let_go()
        super().close()

    def _read(self, count: int) -> bytes:
        from botocore.exceptions import BotoCoreError

        broken: BotoCoreError | None = None
        for number in range(TRIES):
            if number:
                time.sleep(_FIRST_PAUSE_SECONDS * 2**number)
            if self._body is None:
                self._body = self._store._get(self._digest, self._position)["Body"]
            try:
                if data := self._body.read(count):
                    return bytes(data)
            except BotoCoreError as error:
                broken = error
            self._let_go()
        raise StoreUnreachable from broken

    def _let_go(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None


def _client(connect_seconds: int, answer_seconds: int, tries: int) -> Any:
    try:
        import boto3
        from botocore.config import Config
    except ModuleNotFoundError:
        raise StoreLibraryMissing from None
    config = Config(
        connect_timeout=connect_seconds,
        read_timeout=answer_seconds,
        retries={"mode": "standard", "total_max_attempts": tries},
        max_pool_connections=CONNECTIONS,
        # Buckets in the path: stores of one's own have no host name for each bucket.
        s3={"addressing_style": "path", "payload_signing_enabled": True},
        # The signature covers the body; checksums in trailers are news to many stores.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    # A session of its own: the default one is not for several threads.
    with _translated():
        return boto3.session.Session().client("s3", config=config)


@contextlib.contextmanager
def _translated(digest: str | None = None, *, absent_is_fine: bool = False) -> Iterator[None]:
    """The library's errors as ours; ``digest`` is what 404 speaks of, if not of the bucket."""
    from botocore import exceptions

    try:
        yield
    except exceptions.ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status == _ABSENT and code != "NoSuchBucket" and absent_is_fine:
            return
        if status == _ABSENT and code != "NoSuchBucket" and digest is not None:
            raise BlobMissing(digest) from error
        if status == _ABSENT:
            raise BucketMissing from error
        if status in _DENIED:
            raise StoreDenied from error
        raise (StoreUnreachable if status >= _SERVER_ERRORS else StoreFailed) from error
    except (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError,
    ) as error:
        raise StoreDenied from error
    except (exceptions.HTTPClientError, exceptions.EndpointConnectionError) as error:
        raise StoreUnreachable from error
    except exceptions.BotoCoreError as error:
        raise StoreFailed from error
