"""A job's evidence: fetched as a tar, unpacked without trusting the names in it."""

from __future__ import annotations

import re
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Final

from client.downloads import fetch
from client.errors import UnsafeArchive
from client.exchange import Exchange, segment

# No part may lead out of the folder or hide in it.
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+")


def download(exchange: Exchange, job_id: str, folder: Path) -> Path:
    """The evidence is in ``folder``, which must not exist yet: all of it or nothing.

    Raises ``UnsafeArchive``, ``FileExistsError``.
    """
    if folder.exists():
        raise FileExistsError(17, "it exists already; give a folder that does not", str(folder))
    address = f"/jobs/{segment(job_id)}/evidence"
    # One byte and not its head: an answer to HEAD could not say why there is none.
    etag = exchange.get(address, headers={"Range": "bytes=0-0"}).headers["etag"]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        tar, staging = Path(scratch, "evidence.tar"), Path(scratch, "folder")
        fetch(exchange, address, tar, etag=etag)
        staging.mkdir()
        _unpack(tar, staging)
        staging.rename(folder)
    return folder


def _unpack(path: Path, target: Path) -> None:
    """Plain files below one folder, whose own name is dropped; anything else is refused."""
    tops: set[str] = set()
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if not member.isreg() or not _NAME.fullmatch(member.name):
                    raise UnsafeArchive
                top, _, name = member.name.partition("/")
                tops.add(top)
                place = target / name
                if len(tops) > 1 or place.exists():
                    raise UnsafeArchive
                place.parent.mkdir(parents=True, exist_ok=True)
                source = tar.extractfile(member)
                assert source is not None
                with source, place.open("wb") as file:
                    shutil.copyfileobj(source, file)
    except (tarfile.TarError, EOFError) as exc:
        raise UnsafeArchive from exc
