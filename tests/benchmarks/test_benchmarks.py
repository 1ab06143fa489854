"""The measurements measure what they say, and what must not grow with the queue does not."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from benchmarks import document, figures, queues, workers, world
from benchmarks.world import World

POSTGRES = os.environ.get(
    "RAZOR_TEST_POSTGRES_URL", "postgresql+psycopg://root@127.0.0.1:5432/test"
)
SHORT, LONG = 10, 1_000
#: Tables of the filled world that grow with the queue.
GROWING = ("jobs", "personal", "outbox")
#: They count every job, in an index: they are no part of any request or claim.
COUNTING = "figures"


@pytest.fixture(scope="module")
def sqlite_worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, World]]:
    """A short queue and a long one."""
    with ExitStack() as stack:
        yield {
            length: filled(stack, tmp_path_factory.mktemp("queue"), None, length)
            for length in (SHORT, LONG)
        }


@pytest.fixture(scope="module")
def postgres_worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, World]]:
    """The same on PostgreSQL, in schemas of their own."""
    with ExitStack() as stack:
        try:
            urls = [stack.enter_context(world.private_schema(POSTGRES)) for _ in range(2)]
        except OperationalError:
            if os.environ.get("RAZOR_REQUIRE_SERVICES") == "1":
                raise
            pytest.skip("PostgreSQL does not answer; set RAZOR_TEST_POSTGRES_URL")
        yield {
            length: filled(stack, tmp_path_factory.mktemp("queue"), url, length)
            for length, url in zip((SHORT, LONG), urls, strict=True)
        }


def filled(stack: ExitStack, folder: Path, url: str | None, length: int) -> World:
    made = stack.enter_context(world.prepared(folder, url, queues.SHELF))
    queues.fill(made, length)
    return made


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def worlds(request: pytest.FixtureRequest) -> dict[int, World]:
    """Both queues, on either database."""
    found: dict[int, World] = request.getfixturevalue(f"{request.param}_worlds")
    return found


@pytest.mark.parametrize("name", queues.CALLS)
def test_statements_do_not_grow_with_the_queue(worlds: dict[int, World], name: str) -> None:
    counts = {length: queues.once(made, queues.CALLS[name])[1] for length, made in worlds.items()}
    assert counts[SHORT] == counts[LONG] > 0


def plans(session: Session, call: Any) -> list[str]:
    """The plan of every statement of the call, line by line, as PostgreSQL tells it."""
    found: list[str] = []
    connection = session.connection()

    def explain(_: object, cursor: Any, statement: str, parameters: Any, *__: object) -> None:
        if re.match(r"\s*(SELECT|UPDATE|DELETE)", statement):
            with cursor.connection.cursor() as own:
                own.execute(f"EXPLAIN {statement}", parameters)
                found.extend(line for (line,) in own.fetchall())

    event.listen(connection, "before_cursor_execute", explain)
    try:
        call(session)
    finally:
        event.remove(connection, "before_cursor_execute", explain)
    return found


def whole_reads(lines: list[str]) -> list[str]:
    return [line for line in lines if re.search(rf"Seq Scan on ({'|'.join(GROWING)})\b", line)]


# SQLite's plans are tested in tests/registry/test_registry_plans.py.
@pytest.mark.postgres
@pytest.mark.parametrize("name", [name for name in queues.CALLS if name != COUNTING])
def test_postgresql_finds_things_by_index(postgres_worlds: dict[int, World], name: str) -> None:
    with postgres_worlds[LONG].database.transaction() as session:
        # A thousand rows are few: without this it would rather read them all.
        session.execute(text("SET LOCAL enable_seqscan = off"))
        found = plans(session, queues.CALLS[name])
        session.rollback()
    assert found
    assert whole_reads(found) == []


@pytest.mark.postgres
def test_a_whole_read_would_be_noticed(postgres_worlds: dict[int, World]) -> None:
    with postgres_worlds[LONG].database.transaction() as session:
        session.execute(text("SET LOCAL enable_seqscan = off"))
        query = text("SELECT id FROM jobs WHERE phase = 'fit'")
        assert whole_reads(plans(session, lambda s: s.execute(query)))


def test_a_ratio_of_equals_is_one_and_of_halves_two() -> None:
    slow = [0.01 * number for number in range(1, 101)]
    fast = [second / 2 for second in slow]
    same, twice = figures.ratio(slow, slow, 0.95), figures.ratio(slow, fast, 0.95)
    assert (same.value, same.low, same.high) == (1.0, 1.0, 1.0)
    assert twice.value == pytest.approx(2.0)
    assert twice.low <= twice.value <= twice.high


@pytest.mark.parametrize("workers_", [1, 2, 4, 8])
def test_simulated_workers_without_a_lock_share_the_work(workers_: int) -> None:
    alone = workers.simulated(1, 64, 1.0, 0.0, 64)
    assert alone / workers.simulated(workers_, 64, 1.0, 0.0, 64) == pytest.approx(workers_)


def test_simulated_workers_cannot_outrun_the_lock_or_the_models() -> None:
    assert workers.simulated(64, 640, 0.0, 0.01, 64) >= 6.4
    assert workers.simulated(64, 64, 1.0, 0.0, 2) == pytest.approx(32.0)


def test_the_document_on_file_is_what_its_figures_say() -> None:
    folder = Path(__file__).parents[2] / "docs" / "results"
    found = json.loads((folder / "load.json").read_text(encoding="utf-8"))
    assert (folder / "load.md").read_text(encoding="utf-8") == document.text(found)
    assert (folder / document.PLOT).is_file()
