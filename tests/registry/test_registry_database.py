"""Moments, transactions and the engine's settings."""

from __future__ import annotations

import traceback
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from registry_examples import NAME, accept, at, shelve
from sqlalchemy import Column, MetaData, Table, insert, select, text, update
from sqlalchemy.exc import IntegrityError, OperationalError, StatementError

from registry import jobs
from registry.columns import UtcDateTime
from registry.database import Database, Limits
from registry.errors import JobNotFound
from registry.tables import JobRow

MOMENTS = st.datetimes(
    min_value=datetime(1900, 1, 1),
    max_value=datetime(9998, 12, 31),
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone.max]),
)
CLOCK = Table("clock", MetaData(), Column("at", UtcDateTime))


@given(moments=st.lists(MOMENTS, min_size=1, max_size=5))
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_moments_come_back_aware_and_in_order(database: Database, moments: list[datetime]) -> None:
    with database.transaction() as session:
        session.execute(text("DROP TABLE IF EXISTS clock"))
        CLOCK.create(session.connection())
        session.execute(insert(CLOCK), [{"at": moment} for moment in moments])
        found = list(session.scalars(select(CLOCK.c.at).order_by(CLOCK.c.at)))
        session.execute(text("DROP TABLE clock"))
    assert found == sorted(moments)
    assert all(moment.utcoffset() == timedelta(0) for moment in found)


def test_a_naive_moment_is_refused(database: Database) -> None:
    shelve(database, "clip-a")
    with (
        database.transaction() as session,
        pytest.raises(StatementError, match="needs a time zone"),
    ):
        accept(session, now=datetime(2026, 1, 1))


def test_a_transaction_is_all_or_nothing(database: Database) -> None:
    shelve(database, "clip-a")

    def fail() -> None:
        with database.transaction() as session:
            job_ids.append(accept(session).id)
            raise RuntimeError

    job_ids: list[str] = []
    with pytest.raises(RuntimeError):
        fail()
    with database.transaction() as session, pytest.raises(JobNotFound):
        jobs.get(session, job_ids[0])


def test_references_are_kept(database: Database) -> None:
    def orphan() -> None:
        with database.transaction() as session:
            session.execute(
                text("INSERT INTO outbox (job_id, created_at) VALUES ('job_x', :now)"),
                {"now": "2026-01-01 00:00:00+00"},
            )

    with pytest.raises(IntegrityError):
        orphan()


def test_ping_answers_only_for_a_database_that_is_there(database: Database) -> None:
    database.ping()
    gone = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")
    with pytest.raises(OperationalError):
        gone.ping()
    gone.close()


def test_a_file_is_durable_and_shared(sqlite: Database) -> None:
    with sqlite.transaction() as session:
        assert session.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert session.execute(text("PRAGMA synchronous")).scalar() == 2
        assert session.execute(text("PRAGMA foreign_keys")).scalar() == 1


def test_a_transaction_begins_with_the_write_lock(sqlite_url: str) -> None:
    patient = Database(sqlite_url)
    patient.migrate()
    impatient = Database(sqlite_url, limits=Limits(wait_seconds=0))

    def read() -> None:
        with impatient.transaction() as session:
            session.execute(text("SELECT 1"))

    with patient.transaction() as session:
        session.execute(text("SELECT 1"))
        with pytest.raises(OperationalError, match="locked"):
            read()
    read()
    impatient.close()
    patient.close()


def test_a_database_error_quotes_no_row(database: Database) -> None:
    shelve(database, "clip-a")
    with database.transaction() as session:
        job = accept(session)

    def break_a_law() -> None:
        with database.transaction() as session:
            values = {"fraction": 7.0, "request": job.request}
            session.execute(update(JobRow).where(JobRow.id == job.id).values(**values))

    with pytest.raises(IntegrityError) as caught:
        break_a_law()
    told = "".join(traceback.format_exception(caught.value))
    assert "ck_jobs_fraction" in told
    assert NAME not in told
    assert "Failing row" not in told


def test_now_may_be_in_any_time_zone(database: Database) -> None:
    shelve(database, "clip-a")
    east = timezone(timedelta(hours=9))
    with database.transaction() as session:
        job = accept(session, now=at(5).astimezone(east))
        assert jobs.get(session, job.id).created_at == at(5)
