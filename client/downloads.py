"""Files: complete and checked under their names, or not there at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx

from api_schemas.patches import PatchView
from client.errors import DigestError, ProblemError, ServiceUnreachable
from client.exchange import PAUSES_SECONDS, Exchange, comes_back, parsed, segment

MANIFEST_NAME: Final = "manifest.json"
FILE_NAME: Final = "patch.safetensors"
_PARTIAL: Final = 206
_RANGE_REFUSED: Final = 416


def patch(exchange: Exchange, patch_id: str, folder: Path) -> PatchView:
    """The two files of docs/patch_format.md are in ``folder``. Raises ``DigestError``."""
    response = exchange.get(f"/patches/{segment(patch_id)}")
    view = parsed(response, PatchView)
    folder.mkdir(parents=True, exist_ok=True)
    with _temporary(folder / FILE_NAME) as part:
        sha256 = view.manifest.patch_sha256
        address = f"/patches/{segment(patch_id)}/{FILE_NAME}"
        fetch(exchange, address, part, etag=f'"{sha256}"')
        _check(part, sha256=sha256, size=view.manifest.patch_bytes)
        part.replace(folder / FILE_NAME)
    with _temporary(folder / MANIFEST_NAME) as part:
        # From the answer itself: fields that this client does not know belong to the manifest too.
        part.write_bytes(_canonical(json.loads(response.content)["manifest"]))
        part.replace(folder / MANIFEST_NAME)
    return view


def weights(exchange: Exchange, of: str, path: Path) -> Path:
    """The whole file is at ``path``; a part from an earlier call is continued, if it still fits.

    ``of`` is the address of the patch or the version that has the weights.
    """
    address = f"{of}/weights"
    head = exchange.send("HEAD", address)
    etag, size = head.headers["etag"], int(head.headers["content-length"])
    path.parent.mkdir(parents=True, exist_ok=True)
    # The tag in its name: a part of other weights is never continued as these.
    tag = re.sub(r"[^0-9A-Za-z]", "", etag)[:16]
    part = path.with_name(f".{path.name}.{tag}.part")
    fetch(exchange, address, part, etag=etag)
    found = part.stat().st_size
    if found != size:
        part.unlink()
        raise DigestError(path.name, expected=f"{size} bytes", found=f"{found} bytes")
    part.replace(path)
    return path


def is_tar(exchange: Exchange, of: str) -> bool:
    """Whether these weights come as a tar of the whole checkpoint folder."""
    head = exchange.send("HEAD", f"{of}/weights")
    kind: str = head.headers.get("content-type", "")
    return kind.startswith("application/x-tar")


def fetch(exchange: Exchange, address: str, part: Path, *, etag: str) -> None:
    """Append to ``part`` what it lacks, going on after breaks; pauses start over as it grows."""
    pauses = iter(PAUSES_SECONDS)
    while True:
        have = part.stat().st_size if part.exists() else 0
        try:
            _continue(exchange, address, part, have=have, etag=etag)
            return
        except (httpx.TransportError, ProblemError) as exc:
            if isinstance(exc, ProblemError) and not comes_back(exc.problem):
                raise
            if part.exists() and part.stat().st_size > have:
                pauses = iter(PAUSES_SECONDS)
            pause = next(pauses, None)
            if pause is None:
                raise ServiceUnreachable(exchange.base_url, type(exc).__name__) from exc
        time.sleep(pause)


def _continue(exchange: Exchange, address: str, part: Path, *, have: int, etag: str) -> None:
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": etag}
    try:
        with exchange.stream(address, headers) as response, part.open("ab") as file:
            if response.status_code != _PARTIAL:
                file.truncate(0)
            for chunk in response.iter_bytes():
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    except ProblemError as exc:
        # Asked for what comes after the last byte: it was complete already.
        if not have or exc.problem.status != _RANGE_REFUSED:
            raise


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A name beside ``path`` that is free, and free again afterwards."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def _check(part: Path, *, sha256: str, size: int) -> None:
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256 or part.stat().st_size != size:
        raise DigestError(FILE_NAME, expected=f"sha256 {sha256}", found=f"sha256 {found}")


def _canonical(manifest: object) -> bytes:
    """The one true form of a manifest: docs/patch_format.md."""
    text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()
