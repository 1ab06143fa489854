"""The database: one engine, and transactions that commit at the edge."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    ExceptionContext,
    create_engine,
    event,
    make_url,
    text,
)
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from registry import idempotency, schema
from registry.errors import KeysMissing
from registry.installation import Keys

#: How long a connection may lie idle and be trusted.
RESTED_SECONDS: Final = 1.0
#: How PostgreSQL's side of a connection is found to be gone: in half a minute, not in hours.
_POSTGRES: Final = {
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # milliseconds
}
_KEYS: Final = "razor.keys"
_RESTS: Final = "razor.rests"

#: Marks the connections of transactions that only read.
_READS = "razor_reads"

#: NaN and infinity are no JSON: PostgreSQL would refuse them, so SQLite does too.
_to_json = functools.partial(json.dumps, allow_nan=False)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of the server one process may use, and for how long; see ``registry.settings``.

    FastAPI's thread pool has 40 threads, and each may hold one connection. ``wait_seconds`` is for
    a connection, for another transaction on SQLite, for an answer of PostgreSQL. The seconds of a
    statement are PostgreSQL's alone, and no migration's: its transactions that nobody goes on with
    end after the same time, so that a process that hangs holds no lock for longer.
    """

    connections: int = 5
    more_connections: int = 40
    wait_seconds: float = 30.0
    statement_seconds: float = 60.0


class Database:
    """One database that many threads may share. Make one per process: it does not survive a fork.

    ``url``: ``sqlite:////folder/file.db`` or ``postgresql+psycopg://user@host/name``. ``keys``
    are the installation's: without them nobody's data is taken in, and none is opened.
    Whoever waits longer than ``limits`` allow gets ``OperationalError`` or the pool's
    ``TimeoutError``.
    """

    def __init__(self, url: str, keys: Keys | None = None, limits: Limits = Limits()) -> None:
        self._url = make_url(url)
        self._keys = keys
        self._engine = _engine(self._url, limits)
        info = {_KEYS: keys}
        self._sessions = sessionmaker(self._engine, expire_on_commit=False, info=info)
        self._readers = sessionmaker(_reader(self._engine), info=info)

    @property
    def keys(self) -> Keys:
        """The installation's keys. Raises ``KeysMissing``."""
        if self._keys is None:
            raise KeysMissing
        return self._keys

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """All of the block happens, or nothing: committed at its end, rolled back on an error.

        On SQLite transactions follow one another (each takes the write lock when it begins, so
        none can fail halfway for having read too early); readers of a file never see a half.
        """
        with self._sessions.begin() as session:
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """The same for a block that only reads: on SQLite it waits for no writer, nor they for it.

        On PostgreSQL each statement sees the database as it is when it begins, as it does in a
        transaction too; so none is opened. A write in it would fail on SQLite whenever another
        process wrote meanwhile.
        """
        with self._readers.begin() as session:
            yield session

    def migrate(self) -> None:
        """The tables are those of this release; idempotent, and safe in two processes at once."""
        schema.upgrade(self._url)
        if self._keys is not None:
            with self.transaction() as session:
                idempotency.key_old_fingerprints(session, self._keys)

    def scrub(self) -> bool:
        """No file of the database holds a row that was deleted or overwritten; False = try again.

        SQLite: freed pages are zeroed as they are freed, and the write-ahead log is emptied here,
        unless a reader is at work for longer than a transaction waits. PostgreSQL: nothing is
        done; it clears old rows itself, when it vacuums.
        """
        if self._url.get_backend_name() != "sqlite":
            return True
        connection = self._engine.raw_connection()
        try:
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            connection.close()
        return not busy

    def ping(self) -> None:
        """Raise ``sqlalchemy.exc.OperationalError`` if the database does not answer."""
        with self._engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Give every connection back; idempotent."""
        self._engine.dispose()


def keys_of(session: Session) -> Keys:
    """The installation's keys, which come with every session. Raises ``KeysMissing``."""
    keys = session.info.get(_KEYS)
    if keys is None:
        raise KeysMissing
    return cast(Keys, keys)


def _engine(url: URL, limits: Limits) -> Engine:
    options: dict[str, Any] = {
        "json_serializer": _to_json,
        "pool_size": limits.connections,
        "max_overflow": limits.more_connections,
        "pool_timeout": limits.wait_seconds,
        # A request's parameters hold the target's name; an error's text must not.
        "hide_parameters": True,
    }
    if url.get_backend_name() == "sqlite":
        if url.database is not None:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(url, connect_args={"timeout": limits.wait_seconds}, **options)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_immediate)
    else:
        arguments = _postgres_arguments(url, limits.statement_seconds)
        engine = create_engine(url, connect_args=arguments, **options)
        patient = functools.partial(_connect_patiently, limits.wait_seconds)
        event.listen(engine, "do_connect", patient)
        event.listen(engine, "checkin", _note_rest)
        event.listen(engine, "checkout", functools.partial(_check_rested, engine))
    event.listen(engine, "handle_error", _hide_rows)
    return engine


def _connect_patiently(
    wait_seconds: float, _dialect: object, _record: object, _: object, parameters: dict[str, Any]
) -> Any:
    # Only here: whoever stays with SQLite starts without the driver.
    from registry import patience

    return patience.connect(wait_seconds, **parameters)


def _reader(engine: Engine) -> Engine:
    if engine.dialect.name == "sqlite":
        return engine.execution_options(**{_READS: True})
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def _note_rest(_connection: object, record: ConnectionPoolEntry) -> None:
    record.info[_RESTS] = time.monotonic()


def _check_rested(
    engine: Engine, connection: Any, record: ConnectionPoolEntry, _proxy: object
) -> None:
    """A connection that has lain idle is tried before it is used: the server may have gone.

    One that was in use a moment ago is not: that would be a question before each question.
    """
    if time.monotonic() - record.info.get(_RESTS, time.monotonic()) < RESTED_SECONDS:
        return
    try:
        engine.dialect.do_ping(connection)
    except engine.dialect.loaded_dbapi.Error as error:
        # The pool takes another one, or makes one.
        raise DisconnectionError from error


def _postgres_arguments(url: URL, statement_seconds: float) -> dict[str, Any]:
    """What a connection is made with; the address has the last word."""
    milliseconds = round(1000 * statement_seconds)
    ours = (
        f"-c statement_timeout={milliseconds} -c idle_in_transaction_session_timeout={milliseconds}"
    )
    own = {name: value for name, value in _POSTGRES.items() if name not in url.query}
    return own | {"options": f"{ours} {url.query.get('options', '')}".strip()}


def _hide_rows(context: ExceptionContext) -> None:
    """Cut an error to the server's first line: the lines after it quote whole rows."""
    primary = getattr(getattr(context.original_exception, "diag", None), "message_primary", None)
    if primary:
        context.original_exception.args = (primary,)
        if context.sqlalchemy_exception is not None:
            context.sqlalchemy_exception.args = (primary,)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver's own habit of opening transactions by itself, late, is switched off.
    connection.isolation_level = None
    # FULL: a job that was answered with 202 is still there after a power cut.
    # secure_delete: what is deleted is overwritten with zeros.
    for pragma in ("synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_immediate(connection: Connection) -> None:
    reads = connection.get_execution_options().get(_READS, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
