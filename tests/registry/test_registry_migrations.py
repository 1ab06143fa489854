"""The migrations make exactly the tables that the code speaks of, and can take them back."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError
from registry_examples import (
    KEYS,
    PICTURE,
    PRINCIPAL,
    START,
    TENANT,
    accept,
    claim,
    new_patch,
    painted_report,
    report,
    request,
    shelve,
    succeed,
)
from sqlalchemy import JSON, column, create_engine, inspect, make_url, select, table, text
from sqlalchemy.exc import DatabaseError, IntegrityError
from sqlalchemy.orm import Session

from api_schemas.events import EventType
from api_schemas.jobs import JobStatus, Outcome
from api_schemas.methods import Razor
from api_schemas.reasons import RevocationReason
from api_schemas.reports import Report
from api_schemas.requests import UnlearnRequest
from registry import audit, events, jobs, personal, revoking, schema, webhooks
from registry.database import Database

URLS = ("sqlite_url", pytest.param("postgres_url", marks=pytest.mark.postgres))


@pytest.fixture(params=URLS)
def url(request: pytest.FixtureRequest) -> str:
    """The address of an empty database."""
    address: str = request.getfixturevalue(request.param)
    # The folder is made by the database object, as in every process of ours.
    Database(address).close()
    return address


def tables(url: str) -> set[str]:
    engine = create_engine(url)
    try:
        return set(inspect(engine).get_table_names())
    finally:
        engine.dispose()


def test_migrated_tables_are_those_of_the_code(url: str) -> None:
    Database(url).migrate()
    assert schema.differences(make_url(url)) == []


@pytest.mark.parametrize(
    "change",
    [
        "DROP INDEX ix_jobs_queue",
        "ALTER TABLE jobs ADD COLUMN stray INTEGER",
        "ALTER TABLE outbox DROP COLUMN created_at",
        "DROP TABLE audit",
    ],
)
def test_a_difference_is_noticed(url: str, change: str) -> None:
    Database(url).migrate()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(change))
    engine.dispose()
    assert schema.differences(make_url(url)) != []


def test_down_and_up_again(url: str) -> None:
    address = make_url(url)
    schema.upgrade(address)
    full = tables(url)
    schema.downgrade(address, "base")
    assert tables(url) == {"alembic_version"}
    schema.upgrade(address)
    assert tables(url) == full
    assert schema.differences(address) == []


def test_migrating_again_keeps_what_is_there(url: str) -> None:
    database = Database(url, KEYS)
    database.migrate()
    shelve(database, "clip-a")
    with database.transaction() as session:
        accept(session)
    database.migrate()
    with database.transaction() as session:
        assert session.execute(text("SELECT count(*) FROM jobs")).scalar() == 1
    database.close()


def test_threads_may_migrate_at_once(url: str) -> None:
    failures: list[Exception] = []
    barrier = threading.Barrier(4)

    def migrate() -> None:
        barrier.wait()
        try:
            Database(url).migrate()
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=migrate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert schema.differences(make_url(url)) == []


@pytest.mark.postgres
def test_a_migration_waits_for_the_one_before_it(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    migration = threading.Thread(target=Database(postgres_url).migrate)
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": schema._LOCK})
        migration.start()
        migration.join(timeout=0.5)
        assert migration.is_alive()
        assert tables(postgres_url) == set()
    migration.join(timeout=30)
    engine.dispose()
    assert schema.differences(make_url(postgres_url)) == []


def test_processes_may_migrate_a_file_at_once(sqlite_url: str) -> None:
    # PostgreSQL tells threads and processes apart no more than the test above does; a file's
    # locks belong to the process.
    code = "import sys; from registry.database import Database; Database(sys.argv[1]).migrate()"
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", code, sqlite_url]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    answers = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    assert schema.differences(make_url(sqlite_url)) == []


def test_a_failing_migration_leaves_nothing_behind(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_connection: object) -> None:
        raise RuntimeError("after the scripts, before the commit")

    monkeypatch.setattr(schema, "_check_references", fail)
    with pytest.raises(RuntimeError):
        schema.upgrade(make_url(url))
    assert tables(url) == set()


def test_lines_of_an_older_log_become_leaves(url: str) -> None:
    """The same leaves and tree that the lines had got when they were written."""
    database = Database(url, KEYS)
    database.migrate()
    shelve(database, "clip-a")
    for _ in range(4):
        with database.transaction() as session:
            accept(session)

    def tree() -> tuple[list[audit.Entry], bytes]:
        with database.transaction() as session:
            return audit.entries(session), audit.root(session, audit.size(session))

    written = tree()
    assert [entry.tenant for entry in written[0]] == [None] + [TENANT] * 4
    address = make_url(url)
    schema.downgrade(address, "0002")
    with pytest.raises(DatabaseError):  # the control: today's code finds no tree there
        tree()
    schema.upgrade(address)
    assert tree() == written
    with database.transaction() as session, pytest.raises(IntegrityError):
        session.execute(text("DELETE FROM audit"))
    database.close()


def test_rows_of_the_first_tables_are_read_after_an_upgrade(url: str) -> None:
    """A job that was judged before reports had a list of targets."""
    database = Database(url, KEYS)
    database.migrate()
    shelve(database, "clip-a")
    with database.transaction() as session:
        job = accept(session)
        request = jobs.get(session, job.id).request.model_dump(mode="json")
    request["method"] = {"method": "razor", "tau": 0.25, "forget_margin": 6.0}
    old = report().model_dump(mode="json", exclude={"robustness", "earlier"})
    (old["preflight"],) = old["preflight"]
    del old["preflight"]["target"]
    address = make_url(url)
    schema.downgrade(address, "0001")
    with database.transaction() as session:
        raw = table("jobs", column("request", JSON()), column("report", JSON()))
        session.execute(raw.update().values(request=request, report=old))
    for kind, stored in ((UnlearnRequest, request), (Report, old)):
        with pytest.raises(ValidationError):  # the control: today's code cannot read them
            kind.model_validate(stored)
    schema.upgrade(address)
    with database.transaction() as session:
        assert jobs.get(session, job.id).request.method == Razor(tau=0.25)
        found = jobs.report(session, job.id)
    assert found is not None
    assert [known.target for known in found.preflight] == [0]
    assert found.earlier == []
    database.close()


def test_jobs_from_before_there_were_histories_get_theirs(url: str) -> None:
    database = Database(url, KEYS)
    database.migrate()
    shelve(database, "clip-a", "clip-b")
    with database.transaction() as session:
        first = accept(session)
        running = claim(session)
        assert running is not None
        done = succeed(session, running)
        canceled = accept(session)
        jobs.cancel(session, canceled.id, tenant=TENANT, principal=PRINCIPAL, now=START)
        claimed = accept(session)
        assert claim(session) is not None
        waiting = accept(session)
        every = [job.id for job in (first, canceled, claimed, waiting)]
        told = [events.after(session, one, 0, tenant=TENANT, limit=9) for one in every]
        # Of before requests were sealed: a release that cannot open one fails its job instead.
        raw = table("jobs", column("request", JSON()))
        session.execute(raw.update().values(request=request().model_dump(mode="json")))
    address = make_url(url)
    schema.downgrade(address, "0002")
    assert "job_events" not in tables(url)
    schema.upgrade(address)
    with database.transaction() as session:
        again = [events.after(session, one, 0, tenant=TENANT, limit=9) for one in every]
        assert again == told
        assert [len(one) for one in again] == [3, 2, 2, 1]
        assert again[0][-1].data.patch_id == done.patch_id
        # And it goes on from there.
        jobs.cancel(session, waiting.id, tenant=TENANT, principal=PRINCIPAL, now=START)
        assert events.latest(session, waiting.id) == 2
    database.close()


def test_a_release_that_cannot_open_a_job_does_not_run_it_for_another(url: str) -> None:
    """Back before there were keys: the name is lost, so the job has failed; forward, it forgets."""
    database = Database(url, KEYS)
    database.migrate()
    shelve(database, "clip-a")
    with database.transaction() as session:
        sealed, clear = accept(session), accept(session)
    address = make_url(url)
    schema.downgrade(address, "0002")
    raw = table(
        "jobs", column("id"), column("status"), column("request", JSON()), column("error", JSON())
    )
    with database.transaction() as session:
        for row in session.execute(raw.select()):
            assert UnlearnRequest.model_validate(row.request).target.name == "deleted"
            assert (row.status, row.error["code"]) == ("failed", "personal_data_gone")
        was = clear.request.model_dump(mode="json")
        session.execute(raw.update().where(raw.c.id == clear.id).values(request=was))
    schema.upgrade(address)
    with database.transaction() as session:
        assert jobs.get(session, sealed.id).status is JobStatus.FAILED
        assert jobs.get(session, clear.id).request == clear.request
        over = personal.due(session, limit=10, now=datetime.now(UTC))
        assert {one.job_id for one in over} == {sealed.id, clear.id}
        assert jobs.get(session, clear.id).request.wanted() == ()
        assert jobs.get(session, clear.id).subjects == clear.subjects
    assert schema.differences(address) == []
    database.close()


def test_newer_words_are_taken_back_and_what_they_said_is_readable_again(url: str) -> None:
    """Approval, a retry, their events and webhooks: back to a release without, and forward."""
    database = Database(url, KEYS)
    database.migrate()
    shelve(database, "clip-a")
    with database.transaction() as session:
        for wanted in (
            [EventType.APPROVED, EventType.RETRIED],
            [EventType.RETRIED, EventType.RUNNING],
        ):
            webhooks.add(
                session,
                tenant=TENANT,
                principal=PRINCIPAL,
                url="https://example.org/hook",
                events=wanted,
                sealed="sealed",
                now=START,
            )
        waiting = accept(session, approval_required=True)
        declined = accept(session, approval_required=True, retention_days=9)
        approved = accept(session, approval_required=True, retention_days=9)
        who = {"tenant": TENANT, "principal": "key:other", "reason": None, "now": START}
        jobs.decline(session, declined.id, **who)
        jobs.approve(session, approved.id, **who)
        for _ in range(2):
            job = claim(session)
            assert job is not None
            end = {"status": JobStatus.REJECTED, "outcome": Outcome.GATE_REFUSED, "now": START}
            jobs.finish(session, job.id, job.token, report=report(), patch=new_patch(), **end)
            again = {"tenant": TENANT, "principal": PRINCIPAL, "now": START}
            jobs.retry(session, job.id, stored=lambda _: True, **again)
        # Of before requests were sealed: a release that cannot open one fails its job instead.
        raw = table("jobs", column("request", JSON()))
        session.execute(raw.update().values(request=request().model_dump(mode="json")))
        assert newer_words(session) == {"awaiting_approval", "declined", "approved", "retried"}
    address = make_url(url)
    schema.downgrade(address, "0005")
    with database.transaction() as session:
        assert newer_words(session) == set()
        rows = session.execute(text("SELECT id, status, outcome FROM jobs")).all()
        assert {tuple(row) for row in rows} == {
            (waiting.id, "canceled", "canceled"),
            (declined.id, "canceled", "canceled"),
            (approved.id, "queued", None),
        }
        assert session.scalar(text("SELECT count(*) FROM patches")) == 0, "both were replaced"
    schema.upgrade(address)
    assert schema.differences(address) == []
    with database.transaction() as session:
        wants = [one.events for one in webhooks.every(session, TENANT)]
        assert sorted(wants, key=str) == [None, [EventType.RUNNING]], "all, for want of its own"
        for one in (waiting, declined, approved):
            told = [
                event.type for event in events.after(session, one.id, 0, tenant=TENANT, limit=99)
            ]
            assert told[0] is EventType.ACCEPTED
            assert jobs.get(session, one.id).retries == 0
        assert told.count(EventType.REQUEUED) == 3, "an approval and two retries"
        job = claim(session)
        assert job is not None
        assert succeed(session, job).model_version == 1, "and it goes on from there"
    database.close()


def newer_words(session: Session) -> set[str]:
    """Which words of the release with approval are anywhere in jobs, histories and webhooks."""
    queries = (
        "SELECT status || ' ' || coalesce(outcome, '') || ' ' || phase FROM jobs",
        "SELECT type || ' ' || CAST(data AS TEXT) FROM job_events",
        "SELECT coalesce(CAST(events AS TEXT), '') FROM webhooks",
    )
    held = " ".join(line for query in queries for line in session.scalars(text(query)))
    return {
        word for word in ("awaiting_approval", "declined", "approved", "retried") if word in held
    }


def test_a_line_with_a_revoked_version_is_not_taken_back(url: str) -> None:
    """The older tables would take it for a part of the line: nothing at all is changed."""
    database = Database(url, KEYS)
    database.migrate()
    shelve(database, "clip-a")
    with database.transaction() as session:
        accept(session)
        job = claim(session)
        assert job is not None
        succeed(session, job)
        revoking.revoke(
            session,
            "clip-a",
            1,
            tenant=TENANT,
            principal=PRINCIPAL,
            reason=RevocationReason.WRONG_TARGET,
            stored=lambda _: False,
            now=START,
        )
    address = make_url(url)
    with pytest.raises(RuntimeError, match="revoked"):
        schema.downgrade(address, "0005")
    assert schema.differences(address) == [], "not even the later scripts were undone"
    with database.transaction() as session:
        assert jobs.get(session, job.id).version_revoked_at == START
    database.close()


def test_pictures_in_the_clear_leave_the_reports(url: str) -> None:
    database = Database(url, KEYS)
    database.migrate()
    shelve(database, "clip-a")
    stored = painted_report().model_dump(mode="json")
    address = make_url(url)
    with database.transaction() as session:
        first, second = accept(session), accept(session)
    schema.downgrade(address, "0008")
    raw = table("jobs", column("id"), column("report", JSON()))
    with database.transaction() as session:
        session.execute(raw.update().where(raw.c.id == first.id).values(report=stored))
    schema.upgrade(address)
    with database.transaction() as session:
        assert PICTURE not in str(session.scalar(select(raw.c.report).where(raw.c.id == first.id)))
        found = jobs.report(session, first.id)
        assert found is not None
        assert [(grid.png, grid.of_target) for grid in found.pictures] == [(None, 4)]
        assert jobs.report(session, second.id) is None
    schema.downgrade(address, "0008")
    with database.transaction() as session:
        older = session.scalar(select(raw.c.report).where(raw.c.id == first.id))
        assert older["pictures"] == []
    database.close()
