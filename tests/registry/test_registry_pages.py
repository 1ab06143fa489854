"""Lists of jobs: newest first, each job on one page, whatever happens in between."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from registry_examples import PRINCIPAL, TENANT, accept, at, request, shelve

from api_schemas.jobs import JobStatus
from registry import jobs
from registry.database import Database
from registry.errors import InvalidCursor
from registry.jobs import pages


@pytest.fixture(autouse=True)
def _shelf(request: pytest.FixtureRequest) -> None:
    if "database" in request.fixturenames:
        shelve(request.getfixturevalue("database"), "clip-a", "clip-b")


def read_all(database: Database, limit: int, **filters: object) -> list[str]:
    found: list[str] = []
    cursor = None
    while True:
        with database.transaction() as session:
            page, cursor = jobs.page(
                session,
                tenant=TENANT,
                limit=limit,
                cursor=cursor,
                **filters,  # type: ignore[arg-type]
            )
        assert len(page) <= limit
        found.extend(job.id for job in page)
        if cursor is None:
            return found
        assert len(page) == limit


@pytest.mark.parametrize("limit", [1, 3, 7, 8])
def test_pages_partition_the_jobs_newest_first(database: Database, limit: int) -> None:
    with database.transaction() as session:
        # Some at the same microsecond: the id decides.
        made = [accept(session, now=at(number // 3)) for number in range(7)]
        accept(session, tenant="tenant-b")
    newest_first = sorted(made, key=lambda job: (job.created_at, job.id), reverse=True)
    assert read_all(database, limit) == [job.id for job in newest_first]


def test_a_page_stays_itself_while_jobs_are_accepted(database: Database) -> None:
    with database.transaction() as session:
        old = [accept(session, now=at(number)).id for number in range(6)]
        first, cursor = jobs.page(session, tenant=TENANT, limit=3)
        for number in range(6, 12):
            accept(session, now=at(number))
        second, end = jobs.page(session, tenant=TENANT, limit=3, cursor=cursor)
    assert [job.id for job in first + second] == old[::-1]
    assert end is None


def test_filters_leave_what_was_asked_for(database: Database) -> None:
    with database.transaction() as session:
        in_a = [accept(session, now=at(number)).id for number in range(3)]
        in_b = [accept(session, request("clip-b"), now=at(number)).id for number in range(3)]
        jobs.cancel(session, in_b[1], tenant=TENANT, principal=PRINCIPAL, now=at(9))
    assert read_all(database, 2, model="clip-a") == in_a[::-1]
    assert read_all(database, 2, model="clip-b", status=JobStatus.QUEUED) == [in_b[2], in_b[0]]
    assert read_all(database, 2, status=JobStatus.CANCELED) == [in_b[1]]
    assert read_all(database, 2, model="clip-z") == []


def cursor_of(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "?",
        "é",
        "AAAA",
        cursor_of(None),
        cursor_of({}),
        cursor_of([]),
        cursor_of(["2026-01-01T00:00:00", "job_1"]),
        cursor_of(["2026-01-01T00:00:00+00:00", 3]),
        cursor_of(["2026-01-01T00:00:00+00:00", "\0"]),
        cursor_of(["0001-01-01T00:00:00+14:00", "job_1"]),
        cursor_of([1, "job_1"]),
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
    ],
)
def test_what_is_no_cursor_is_refused(database: Database, cursor: str) -> None:
    with database.transaction() as session, pytest.raises(InvalidCursor):
        jobs.page(session, tenant=TENANT, limit=3, cursor=cursor)


@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_reading_a_cursor_never_breaks(cursor: str) -> None:
    try:
        moment, job_id = pages._read(cursor)
    except InvalidCursor:
        return
    assert moment.utcoffset() is not None
    assert isinstance(job_id, str)
