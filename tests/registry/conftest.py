"""A migrated database, empty for every test: SQLite always, PostgreSQL when it answers."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from registry_examples import KEYS, clear
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from registry.database import Database
from registry.s3 import S3Blobs
from tests.s3_server import S3Server

POSTGRES = os.environ.get(
    "RAZOR_TEST_POSTGRES_URL", "postgresql+psycopg://root@127.0.0.1:5432/test"
)
BOTH = ("sqlite", pytest.param("postgres", marks=pytest.mark.postgres))


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The address of a database file that does not exist yet."""
    return f"sqlite:///{tmp_path}/new/razor.db"


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """The address of an empty PostgreSQL schema, dropped after the test."""
    with _fresh_schema() as url:
        yield url


@pytest.fixture(scope="session")
def _sqlite_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    folder = tmp_path_factory.mktemp("registry")
    yield from _migrated(f"sqlite:///{folder}/razor.db")


@pytest.fixture(scope="session")
def _postgres_database() -> Iterator[Database]:
    with _fresh_schema() as url:
        yield from _migrated(url)


@pytest.fixture(params=BOTH)
def database(request: pytest.FixtureRequest) -> Database:
    """An empty database of this release, on SQLite and on PostgreSQL."""
    return _emptied(request.getfixturevalue(f"_{request.param}_database"))


@pytest.fixture
def sqlite(_sqlite_database: Database) -> Database:
    """An empty database of this release, on SQLite."""
    return _emptied(_sqlite_database)


def _migrated(url: str) -> Iterator[Database]:
    database = Database(url, KEYS)
    database.migrate()
    yield database
    database.close()


def _emptied(database: Database) -> Database:
    with database.transaction() as session:
        clear(session)
    return database


@contextmanager
def _fresh_schema() -> Iterator[str]:
    """A PostgreSQL schema of its own, gone at the end; skips when the server does not answer."""
    engine = create_engine(POSTGRES)
    name = f"razor_test_{uuid.uuid4().hex}"
    try:
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {name}"))
    except OperationalError as error:
        if os.environ.get("RAZOR_REQUIRE_SERVICES") == "1":
            raise
        pytest.skip(f"PostgreSQL does not answer: {type(error.orig).__name__}")
    # Nothing here outlives a crash, so no commit needs to wait for the disk.
    options = f"-csearch_path={name} -csynchronous_commit=off"
    url = make_url(POSTGRES).update_query_dict({"options": options})
    try:
        yield url.render_as_string(hide_password=False)
    finally:
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
        engine.dispose()


@pytest.fixture
def bucket(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Blobs:
    """An empty bucket of its own; the environment leads boto3 to its server."""
    for name, value in s3.variables.items():
        monkeypatch.setenv(name, value)
    store = S3Blobs(f"s3://razor-{uuid.uuid4().hex}/some/prefix")
    store.make_bucket()
    return store
