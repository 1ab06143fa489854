"""Digests of checkpoints that were hashed before, by size and times of their files.

Hashing gigabytes is most of a cold start. A file whose size, identity and times are as they were is
taken to be the same; that is looked into again, byte for byte, once a day. The note lies in the
service's own folder: whoever may write a model may not write what is believed of it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from patches import digests
from patches.paths import regular_files

log = logging.getLogger(__name__)

#: How long a digest is believed without reading the file again.
WHOLE_SECONDS: Final = 24 * 3600.0
_MOST_THREADS: Final = 8


@dataclass(frozen=True)
class KnownDigests:
    """Notes in a folder; without them, or with wrong ones, everything is hashed."""

    folder: Path

    def checkpoint(self, checkpoint: Path) -> str:
        """As ``digests.checkpoint_digest``; raises what that raises."""
        files = regular_files(checkpoint)
        note = self.folder / f"{hashlib.sha256(os.fsencode(checkpoint.resolve())).hexdigest()}.json"
        known = _read(note)
        now = time.time()

        def digest(named: tuple[str, Path]) -> list[Any]:
            name, path = named
            looks = _looks(path)
            found = known.get(name)
            if found is not None and found[:-2] == looks and 0 <= now - found[-1] < WHOLE_SECONDS:
                return found
            return [*looks, digests.file_digest(path), now]

        with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as threads:
            rows = dict(zip((name for name, _ in files), threads.map(digest, files), strict=True))
        if rows != known:
            self._write(note, rows)
        return digests.folder_digest((name, row[-2]) for name, row in rows.items())

    def _write(self, note: Path, rows: dict[str, list[Any]]) -> None:
        """A note that cannot be written costs the next start its time, and nothing else."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.folder) as temporary:
                partial = Path(temporary) / note.name
                partial.write_text(json.dumps(rows), encoding="utf-8")
                partial.rename(note)
        except OSError as error:
            log.warning("digests were not noted: %s", type(error).__name__)


def _looks(path: Path) -> list[int]:
    """What changes when somebody writes the file: its size, identity, and times.

    The time of its last change of status cannot be set back by whoever writes it.
    """
    found = path.stat()
    return [found.st_size, found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns]


def _read(note: Path) -> dict[str, list[Any]]:
    with suppress(OSError, ValueError):
        rows = json.loads(note.read_text(encoding="utf-8"))
        whole = isinstance(rows, dict) and all(
            isinstance(row, list) and len(row) == 7 for row in rows.values()
        )
        return rows if whole else {}
    return {}
