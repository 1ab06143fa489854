"""Files that a crash left in a folder where things are in the making."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path


def remove(folder: Path, before: datetime, pattern: str = "*") -> None:
    """What was last changed ``before`` is gone from the folder; idempotent, no folder is fine."""
    for path in folder.glob(pattern):
        try:
            if path.lstat().st_mtime >= before.timestamp():
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except FileNotFoundError:  # its owner was faster, or another janitor
            continue
