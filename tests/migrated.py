"""A database of this release, migrated once by each process and copied for whoever needs one."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from sqlalchemy import make_url

from registry.database import Database


def lay_down(url: str) -> None:
    """Put a migrated, empty database where a SQLite address says; what is there already stays.

    Migrating it again afterwards is a real, and quick, look at its revision.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database is None:
        return
    file = Path(parsed.database)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_pristine())


@functools.cache
def _pristine() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "razor.db"
        database = Database(f"sqlite:///{file}")
        database.migrate()
        database.close()
        return file.read_bytes()
