"""What queues of different lengths cost: the same calls on each, in turn."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import event, text
from sqlalchemy.orm import Session

from api_schemas.tenants import DEFAULT_TENANT
from benchmarks import figures, world
from benchmarks.world import World
from registry import deliveries, jobs, outbox, personal

Row = dict[str, Any]
LENGTHS: Final = (0, 100, 1_000, 10_000)
SHELF: Final = 4
CLAIM: Final = "claim"


def _now() -> datetime:
    return datetime.now(UTC)


#: Each in a transaction that is undone: what a round of it costs while nothing is wrong.
CALLS: Final[Mapping[str, Callable[[Session], object]]] = {
    CLAIM: lambda s: jobs.claim(s, worker="load", lease_seconds=60, now=_now()),
    "list of 50": lambda s: jobs.page(s, tenant=DEFAULT_TENANT, limit=50),
    "relay of 100": lambda s: outbox.mark_sent(s, [m.id for m in outbox.pending(s, 100)], _now()),
    "reaper": lambda s: jobs.reap(s, max_attempts=3, now=_now()),
    "reconciler": lambda s: outbox.resend(s, after_seconds=3600, limit=100, now=_now()),
    "janitor": lambda s: personal.due(s, limit=100, now=_now()),
    "webhooks": lambda s: deliveries.claim(s, endpoints=4, each=4, lease_seconds=120, now=_now()),
    "figures": lambda s: jobs.counts(s, now=_now()),
}


def measured(database: str, url: str | None, rounds: int) -> list[Row]:
    """Milliseconds and statements of every call at every length; the lengths take turns."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="razor-queue-")))
        worlds = {}
        for length in LENGTHS:
            schema = None if url is None else stack.enter_context(world.private_schema(url))
            made = stack.enter_context(world.prepared(folder / str(length), schema, SHELF))
            fill(made, length)
            worlds[length] = made
        seconds: dict[tuple[str, int], list[float]] = {}
        statements: dict[tuple[str, int], int] = {}
        for _ in range(rounds + 1):
            for name, call in CALLS.items():
                for length, made in worlds.items():
                    took, count = once(made, call)
                    seconds.setdefault((name, length), []).append(took)
                    statements[name, length] = count
    return [
        {
            "database": database,
            "call": name,
            "length": length,
            "n": rounds,
            "statements": statements[name, length],
            # The first of each found nothing warm.
            "p50_ms": _told([1000 * took for took in found[1:]]),
        }
        for (name, length), found in seconds.items()
    ]


def once(made: World, call: Callable[[Session], object]) -> tuple[float, int]:
    """Seconds and statements of one call, undone."""
    with made.database.transaction() as session:
        with counted(session) as statements:
            started = time.perf_counter()
            call(session)
            took = time.perf_counter() - started
        session.rollback()
    return took, len(statements)


@contextmanager
def counted(session: Session) -> Iterator[list[str]]:
    """Every statement of the block."""
    found: list[str] = []
    connection = session.connection()

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        found.append(statement)

    event.listen(connection, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(connection, "before_cursor_execute", note)


def fill(made: World, length: int) -> None:
    """So many queued jobs, their messages waiting, spread over the shelf."""
    if length == 0:
        return
    for number in range(SHELF):
        made.accept(world.model_id(number))
    with made.database.transaction() as session:
        found = [dict(row) for row in session.execute(text("SELECT * FROM jobs")).mappings()]
        for template in found:
            for name, value in template.items():
                # The driver gives JSON columns as objects, and takes text.
                if isinstance(value, (dict, list)):
                    template[name] = json.dumps(value)
        names = list(found[0])
        rows = [
            found[number % SHELF] | {"id": f"job_{number:032x}"} for number in range(length - SHELF)
        ]
        columns, values = ", ".join(names), ", ".join(f":{name}" for name in names)
        session.execute(text(f"INSERT INTO jobs ({columns}) VALUES ({values})"), rows)
        session.execute(
            text(
                "INSERT INTO personal (job_id, retention_days, data_key, sealed, subjects)"
                " SELECT jobs.id, 0, kept.data_key, kept.sealed, kept.subjects FROM jobs,"
                " (SELECT * FROM personal LIMIT 1) AS kept"
                " WHERE jobs.id NOT IN (SELECT job_id FROM personal)"
            )
        )
        session.execute(
            text(
                "INSERT INTO outbox (job_id, created_at) SELECT id, created_at FROM jobs"
                " WHERE id NOT IN (SELECT job_id FROM outbox)"
            )
        )
    with made.database.transaction() as session:
        session.execute(text("ANALYZE"))


def _told(values: list[float]) -> list[float]:
    figure = figures.quantile(values, 0.5)
    return [figure.value, figure.low, figure.high]
