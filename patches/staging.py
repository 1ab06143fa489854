"""Folders and files that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from patches.errors import DestinationExists


@contextmanager
def staged_folder(destination: Path) -> Iterator[Path]:
    """A temporary folder beside the destination; it takes the final name if the block succeeds.

    On any error it is removed and the destination never existed. Raises DestinationExists when
    something took the name meanwhile.
    """
    staging = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    try:
        yield staging
        staging.chmod(0o755)  # mkdtemp's 0700 would hide the result from the service that serves it
        sync_folder(staging)
        if destination.exists():
            raise DestinationExists(destination)
        staging.rename(destination)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    sync_folder(destination.parent)


def sync_folder(folder: Path) -> None:
    """The folder's names are on disk: without this, a rename may be lost with the power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
