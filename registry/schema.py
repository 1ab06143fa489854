"""The tables' shape through time: migrations forward and back, and what still differs.

Alembic is imported where it is used: a front that only serves starts without it.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, NullPool, create_engine, event, text
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.orm import Session

from registry.errors import MigrationForbidden
from registry.tables import Base

if TYPE_CHECKING:
    from alembic.config import Config

_FOLDER = Path(__file__).parent / "migrations"
#: Any number that nothing else in the database locks; these are the letters "RAZR".
_LOCK = 0x52415A52
_WAIT_SECONDS = 60
#: PostgreSQL's insufficient_privilege.
_FORBIDDEN = "42501"
#: Alembic hands its scripts their context through a module, of which a process has one.
_ALEMBIC = threading.Lock()


def upgrade(url: URL, revision: str = "head") -> None:
    """Bring the tables forward to ``revision``; idempotent; one process at a time does it.

    Raises ``MigrationForbidden`` where there is something to do and the address's role may not.
    """
    from alembic import command

    try:
        with _alone(url) as connection:
            command.upgrade(_config(connection), revision)
            _check_references(connection)
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) == _FORBIDDEN:
            raise MigrationForbidden from error
        raise


def downgrade(url: URL, revision: str) -> None:
    """Take the tables back to ``revision`` (``base`` = none), with what only later ones hold."""
    from alembic import command

    with _alone(url) as connection:
        command.downgrade(_config(connection), revision)
        _check_references(connection)


def newest() -> str:
    """The revision that this release's code is written for."""
    # By name: the scripts are numbered, and Alembic is not imported for this.
    return max(path.name for path in (_FOLDER / "versions").glob("[0-9]*_*.py")).partition("_")[0]


def found(session: Session) -> str | None:
    """The revision that the database's tables have; None where nobody has made any."""
    try:
        revision: str | None = session.scalar(text("SELECT version_num FROM alembic_version"))
    except (OperationalError, ProgrammingError) as error:
        # PostgreSQL has a class for it; SQLite only says it, and says as much of a lost file.
        if isinstance(error, OperationalError) and "no such table" not in str(error.orig):
            raise
        session.rollback()
        return None
    return revision


def differences(url: URL) -> list[Any]:
    """What the tables in the database lack or have too much, compared with the code; [] = none."""
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    with _alone(url) as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        return list(compare_metadata(context, Base.metadata))


@contextmanager
def _alone(url: URL) -> Iterator[Connection]:
    """One transaction that no other process's migration can overlap."""
    engine = create_engine(url, poolclass=NullPool)
    if engine.dialect.name == "sqlite":
        # Foreign keys stay off (SQLite's default), because a migration that rebuilds a table
        # drops the old one: with them on, that would empty the tables that refer to it.
        event.listen(engine, "connect", _own_transactions)
        event.listen(engine, "begin", lambda c: c.exec_driver_sql("BEGIN IMMEDIATE"))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        with _ALEMBIC:
            yield connection


def _own_transactions(connection: Any, _record: object) -> None:
    """Switch the driver's own transactions off, and the file to its write-ahead log, for good."""
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {_WAIT_SECONDS * 1000}").close()
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").close()
        except sqlite3.OperationalError:
            # SQLite does not wait for this lock by itself, and another process may hold it.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _config(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _check_references(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        assert not broken, f"a migration left {len(broken)} rows that refer to nothing"
