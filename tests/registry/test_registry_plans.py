"""How the database finds things: by index, so that 10,000 jobs cost what ten do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from registry_examples import KEYS, PRINCIPAL, TENANT, accept, at, beat, claim, shelve, succeed
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from api_schemas.jobs import JobStatus
from api_schemas.tenants import TenantSettings
from registry import audit, deliveries, drafts, events, jobs, outbox, personal, quotas, tenants
from registry.database import Database

MANY = 10_000
#: Tables that grow with the jobs. ``models`` does not, and a claim looks at each model.
GROWING = (
    "jobs",
    "patches",
    "versions",
    "idempotency",
    "audit",
    "personal",
    "job_events",
    "webhook_deliveries",
)


@pytest.fixture(scope="module")
def crowded_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with many queued jobs, as a file."""
    path = tmp_path_factory.mktemp("crowded") / "razor.db"
    database = Database(f"sqlite:///{path}", KEYS)
    database.migrate()
    shelve(database, "clip-a", "clip-b")
    limits = TenantSettings(max_queued_jobs=5 * MANY, max_jobs_per_day=MANY // 2)
    with database.transaction() as session:
        tenants.add(session, TENANT, limits, actor=PRINCIPAL, now=at(0))
        accept(session)
        template = dict(session.execute(text("SELECT * FROM jobs")).mappings().one())
        rows = [template | {"id": f"job_{number:032x}"} for number in range(MANY)]
        names = ", ".join(template)
        values = ", ".join(f":{name}" for name in template)
        session.execute(text(f"INSERT INTO jobs ({names}) VALUES ({values})"), rows)
        session.execute(
            text(
                "INSERT INTO personal (job_id, retention_days, data_key, sealed, subjects)"
                " SELECT jobs.id, 0, data_key, sealed, subjects FROM jobs, personal"
                " WHERE jobs.id != job_id"
            )
        )
        session.execute(text("DELETE FROM outbox"))
        session.execute(text("UPDATE jobs SET message_sent_at = created_at"))
    database.close()
    return path


@pytest.fixture
def session(crowded_file: Path) -> Iterator[Session]:
    """A transaction on the crowded database that is undone at the end."""
    database = Database(f"sqlite:///{crowded_file}")
    with database.transaction() as session:
        yield session
        session.rollback()
    database.close()


@contextmanager
def explained(session: Session) -> Iterator[list[str]]:
    """The plan of every statement of the block, line by line."""
    plans: list[str] = []
    connection = session.connection()

    def explain(
        _connection: object,
        cursor: object,
        statement: str,
        parameters: tuple[object, ...],
        _context: object,
        many: bool,
    ) -> None:
        if many or not re.match(r"\s*(SELECT|UPDATE|DELETE)", statement):
            return
        raw = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)  # type: ignore[attr-defined]
        plans.extend(row[3] for row in raw.fetchall())

    event.listen(connection, "before_cursor_execute", explain)
    try:
        yield plans
    finally:
        event.remove(connection, "before_cursor_execute", explain)


def scans(plans: list[str]) -> list[str]:
    """The lines that read a growing table from end to end (an alias ends in a number)."""
    pattern = rf"^SCAN ({'|'.join(GROWING)})(_\d+)?\b"
    return [line for line in plans if re.match(pattern, line)]


def drop_a_draft(session: Session) -> None:
    job = claim(session)
    assert job is not None
    jobs.draft(session, job.id, job.token, "d" * 64, now=at(0))
    succeed(session, job)
    assert drafts.drop(session, "d" * 64, before=at(1))


CALLS: dict[str, Callable[[Session], object]] = {
    "page": lambda s: jobs.page(s, tenant=TENANT, limit=50),
    "page by status": lambda s: jobs.page(s, tenant=TENANT, limit=50, status=JobStatus.QUEUED),
    "page by model": lambda s: jobs.page(s, tenant=TENANT, limit=50, model="clip-a"),
    "next page": lambda s: jobs.page(
        s, tenant=TENANT, limit=50, cursor=jobs.page(s, tenant=TENANT, limit=50)[1]
    ),
    "claim": claim,
    "get": lambda s: jobs.get(s, "job_" + "0" * 32),
    "cancel": lambda s: jobs.cancel(
        s, "job_" + "0" * 32, tenant=TENANT, principal=PRINCIPAL, now=at(1)
    ),
    "reap": lambda s: jobs.reap(s, max_attempts=1, now=at(100)),
    "relay": lambda s: outbox.mark_sent(s, [m.id for m in outbox.pending(s, 10)], at(1)),
    "resend": lambda s: outbox.resend(s, after_seconds=1, limit=10, now=at(100)),
    "quota": lambda s: quotas.wait_seconds(s, TENANT, now=at(1)),
    "forget": lambda s: personal.due(s, limit=10, now=at(100)),
    "events": lambda s: events.after(s, "job_" + "0" * 32, 3, tenant=TENANT, limit=9),
    "deliver": lambda s: deliveries.claim(s, endpoints=9, each=3, lease_seconds=9, now=at(1)),
    "abandoned drafts": lambda s: drafts.abandoned(s, before=at(1), limit=9),
    "drop a draft": drop_a_draft,
    "history": lambda s: audit.entries(s, object_id="job_" + "0" * 32),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_nothing_reads_all_jobs(session: Session, call: Callable[[Session], object]) -> None:
    with explained(session) as plans:
        call(session)
    assert plans
    assert scans(plans) == []


def test_statistics_do_not_make_the_reaper_read_all_jobs(session: Session) -> None:
    session.execute(text("ANALYZE"))
    with explained(session) as plans:
        CALLS["reap"](session)
    assert plans
    assert scans(plans) == []


def test_a_run_reads_no_other_jobs(session: Session) -> None:
    with explained(session) as plans:
        job = claim(session)
        assert job is not None
        beat(session, job)
        succeed(session, job)
    assert scans(plans) == []


@pytest.mark.parametrize("call", ["claim", "page", "page by status", "page by model", "next page"])
def test_the_order_comes_from_the_index(session: Session, call: str) -> None:
    with explained(session) as plans:
        CALLS[call](session)
    # A claim sorts the models' first jobs, one line per model, never a queue.
    sorts = [line for line in plans if "TEMP B-TREE" in line]
    assert len(sorts) <= (1 if call == "claim" else 0)


def test_counts_touch_no_row_of_the_table(session: Session) -> None:
    with explained(session) as plans:
        jobs.counts(session, now=at(100))
    reads = [line for line in plans if re.match(r"(SCAN|SEARCH) jobs", line)]
    assert reads
    assert all("COVERING INDEX" in line for line in reads)


def test_a_full_scan_would_be_noticed(session: Session) -> None:
    with explained(session) as plans:
        session.execute(text("SELECT id FROM jobs WHERE phase = :phase"), {"phase": "fit"})
        session.execute(text("SELECT id FROM jobs ORDER BY phase"))
    assert len(scans(plans)) == 2
    assert any("TEMP B-TREE" in line for line in plans)
