"""The whole service as processes: HTTP front, worker, database, broker."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from api_schemas.families import Family
from api_schemas.shelf import ModelRecord, RetainSet
from cli import shipped
from cli.shelf import register
from cli.stack import Process, Stack, environment_for, free_port
from cli.up import first_key
from razor.reference import painted, questions
from razor.reference.captions import PROMPTS
from razor.reference.clip import shipped_clip
from registry.database import Database
from registry.s3 import S3Blobs
from registry.settings import Settings
from tests.s3_server import S3Server

POSTGRES = os.environ.get(
    "RAZOR_TEST_POSTGRES_URL", "postgresql+psycopg://root@127.0.0.1:5432/test"
)
REDIS = os.environ.get("RAZOR_TEST_REDIS_URL", "redis://127.0.0.1:6379")


@dataclass
class Running:
    """A started service with one worker, and further workers that a test starts itself."""

    stack: Stack
    folder: Path
    key: str
    extra: list[Process] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.stack.url

    def another_worker(self) -> Process:
        name = f"worker {len(self.extra) + 2}"
        log = self.stack.settings.data_folder / "logs" / f"extra-{len(self.extra)}.log"
        process = Process(name, "worker", log, environment_for(self.stack.settings))
        process.start()
        self.extra.append(process)
        return process

    def stop_extra(self) -> None:
        for process in self.extra:
            process.ask_to_stop()
            process.stop(0.0)


def unavailable(reason: str) -> None:
    """Skips where a server does not answer; fails where it has to."""
    if os.environ.get("RAZOR_REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def postgres_schema() -> Iterator[str]:
    """The address of an empty PostgreSQL schema, dropped after the test."""
    schema = f"razor_e2e_{uuid.uuid4().hex[:12]}"
    engine = create_engine(POSTGRES, isolation_level="AUTOCOMMIT")
    with ExitStack() as stack:
        stack.callback(engine.dispose)
        try:
            connection = stack.enter_context(engine.connect())
        except OperationalError:
            unavailable("PostgreSQL does not answer; set RAZOR_TEST_POSTGRES_URL")
        connection.execute(text(f"CREATE SCHEMA {schema}"))
        stack.callback(connection.execute, text(f"DROP SCHEMA {schema} CASCADE"))
        url = make_url(POSTGRES).update_query_dict({"options": f"-csearch_path={schema}"})
        yield url.render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def redis_database() -> Iterator[str]:
    """The address of a Redis database that holds nothing, emptied again after the test."""
    # Processes that share the tests keep to databases of their own.
    own, processes = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]), 2
    for number in range(15 - own % processes, 0, -processes):
        url = f"{REDIS}/{number}"
        server = redis.Redis.from_url(url)
        try:
            if server.dbsize() == 0:
                break
        except redis.exceptions.ConnectionError:
            unavailable("Redis does not answer; set RAZOR_TEST_REDIS_URL")
        server.close()
    else:
        unavailable("Redis has no empty database; the tests use none that holds anything")
    yield url
    server.flushdb()
    server.close()


@pytest.fixture(scope="module")
def bucket(s3: S3Server) -> Iterator[str]:
    """The address of an empty bucket; this process's environment leads to its server."""
    url = f"s3://razor-{uuid.uuid4().hex}/blobs"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.variables.items():
            patch.setenv(name, value)
        S3Blobs(url).make_bucket()
        yield url


@pytest.fixture(
    scope="module",
    params=[
        "embedded",
        pytest.param("production", marks=[pytest.mark.postgres, pytest.mark.redis, pytest.mark.s3]),
    ],
)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, retain_folder: Path
) -> Iterator[Running]:
    """The service on SQLite and files, and on PostgreSQL, Redis and S3 where they answer.

    One for all tests of the module: the one that kills its worker comes last.
    """
    # Phases are told with heartbeats: an edit that takes a second or two must be seen meanwhile.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAZOR_HEARTBEAT_SECONDS", "0.2")
        yield from _running(request, tmp_path_factory, retain_folder)


def _running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, retain_folder: Path
) -> Iterator[Running]:
    tmp_path = tmp_path_factory.mktemp("running")
    urls: dict[str, str] = {}
    if request.param == "production":
        urls = {
            "database_url": request.getfixturevalue("postgres_schema"),
            "broker_url": request.getfixturevalue("redis_database"),
            "blobs_url": request.getfixturevalue("bucket"),
        }
    plain = painted.write_plain(tmp_path / "plain", painted.SUBJECTS, 8, 72)
    portraits = questions.write_portraits(tmp_path / "portraits", 12, 72)
    records = (
        clip_record(retain_folder),
        shipped.generator_record("diffusion", plain),
        shipped.talker_record("llava", portraits),
    )
    with started(tmp_path, records, **urls) as found:
        yield found


@pytest.fixture
def alone(
    tmp_path: Path, retain_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Running]:
    """The service on SQLite and files, for one test that restarts it and deletes what it keeps.

    It sends webhooks to the loopback, where the test listens.
    """
    monkeypatch.setenv("RAZOR_WEBHOOK_ALLOW_PRIVATE", "true")
    monkeypatch.setattr("cli.stack.READY_SECONDS", 300.0)  # it starts three times, maybe in a crowd
    with started(tmp_path, (clip_record(retain_folder),)) as found:
        yield found


def clip_record(retain_folder: Path) -> ModelRecord:
    return ModelRecord(
        id="reference-clip",
        family=Family.CLIP,
        checkpoint=str(shipped_clip()),
        retain=RetainSet(folder=str(retain_folder)),
        prompts=PROMPTS,
    )


@contextmanager
def started(folder: Path, records: Iterable[ModelRecord], **urls: str) -> Iterator[Running]:
    """A front and a worker, with these models on the shelf."""
    settings = Settings(data_folder=folder / "data", port=free_port(), **urls)
    settings.data_folder.mkdir()
    database = Database(settings.database)
    database.migrate()
    first = first_key(settings)
    assert first is not None
    for record in records:
        register(database, record)
    database.close()
    quiet: Callable[[str], None] = lambda _: None  # noqa: E731
    with Stack(settings, say=quiet) as stack:
        found = Running(stack, folder, first.text)
        try:
            yield found
        finally:
            found.stop_extra()
