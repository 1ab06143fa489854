"""Files whose bytes never change: strong tags, 304, one range, 416, in constant memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from fastapi import Request
from starlette.responses import Response, StreamingResponse

from service import errors, etags

BINARY: Final = "application/octet-stream"
TAR: Final = "application/x-tar"
PEM: Final = "application/x-pem-file"
NOTE: Final = "text/plain; charset=utf-8"
CHUNK_BYTES: Final = 2**18
# Eighteen digits are more than any file has bytes, and int() of them is cheap.
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Download:
    """One file to hand out. ``read(start, stop)`` yields its bytes from start up to stop."""

    etag: str
    size: int
    media_type: str
    file_name: str
    read: Callable[[int, int], Iterator[bytes]]


def respond(download: Download, request: Request) -> Response:
    """The file, the asked part of it, or 304. Raises ``RangeNotSatisfiable``.

    Several ranges at once, and ranges in a form we do not know, are answered with the whole file,
    as RFC 9110 allows.
    """
    headers = {
        "etag": download.etag,
        "accept-ranges": "bytes",
        "cache-control": "private, no-cache",
    }
    if etags.none_match_fails(request.headers.get("if-none-match"), download.etag):
        return Response(status_code=304, headers=headers)
    headers["content-disposition"] = f'attachment; filename="{download.file_name}"'
    start, stop, status = 0, download.size, 200
    part = None if request.method == "HEAD" else _asked_range(request, download)
    if part is not None:
        start, stop, status = *part, 206
        headers["content-range"] = f"bytes {start}-{stop - 1}/{download.size}"
    headers["content-length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(headers=headers, media_type=download.media_type)
    return StreamingResponse(
        download.read(start, stop),
        status_code=status,
        headers=headers,
        media_type=download.media_type,
    )


def _asked_range(request: Request, download: Download) -> tuple[int, int] | None:
    """The half-open range that is asked for, None for the whole file."""
    condition = request.headers.get("if-range")
    if condition is not None and condition.strip() != download.etag:
        # The caller holds a part of another file, or asks by date, which we do not keep.
        return None
    found = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if found is None or found.group(1, 2) == ("", ""):
        return None
    first, last = found.groups()
    size = download.size
    if first == "":
        start, stop = max(0, size - int(last)), size
    else:
        start = int(first)
        stop = min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= size:
        raise errors.RangeNotSatisfiable(headers={"content-range": f"bytes */{size}"})
    return start, stop


def read_file(open_file: Callable[[], BinaryIO], start: int, stop: int) -> Iterator[bytes]:
    """The bytes from start up to stop, opened when the first is asked for. Raises ``EOFError``."""
    with open_file() as file:
        file.seek(start)
        while start < stop:
            chunk = file.read(min(CHUNK_BYTES, stop - start))
            if not chunk:
                raise EOFError
            start += len(chunk)
            yield chunk
