"""Pictures that a generator painted of a target: as short-lived as the samples."""

from __future__ import annotations

import base64

import pytest
from registry_examples import PICTURE, TENANT, accept, at, claim, painted_report, shelve
from sqlalchemy import text

from api_schemas.jobs import JobStatus, Outcome
from registry import jobs, painted, personal
from registry.database import Database
from registry.sealing import DataKey

DAY = 86_400


@pytest.fixture(autouse=True)
def _shelf(database: Database) -> None:
    shelve(database, "clip-a")


def ended(database: Database, days: int) -> str:
    """The id of a job that ended with pictures in its report."""
    with database.transaction() as session:
        job_id = accept(session, retention_days=days).id
        job = claim(session)
        assert job is not None
        jobs.finish(
            session,
            job.id,
            job.token,
            status=JobStatus.REJECTED,
            outcome=Outcome.GATE_REFUSED,
            report=painted_report(),
            now=at(1),
        )
    return job_id


def pictures(database: Database, job_id: str) -> list[str | None]:
    with database.transaction() as session:
        report = jobs.report(session, job_id)
    assert report is not None
    assert [(grid.of_target, grid.of_retained) for grid in report.pictures] == [(4, 3)]
    return [grid.png for grid in report.pictures]


def lies_in_a_row(database: Database) -> bool:
    """Whether the picture can be read from the jobs' rows by anybody."""
    with database.transaction() as session:
        rows = "".join(session.scalars(text("SELECT CAST(report AS TEXT) FROM jobs")).all())
    return PICTURE in rows


def test_without_a_retention_they_are_never_stored(database: Database) -> None:
    job_id = ended(database, days=0)
    assert pictures(database, job_id) == [None]
    with database.transaction() as session:
        raw = session.scalar(text("SELECT CAST(report AS TEXT) FROM jobs"))
    assert '"png":null' in str(raw).replace(" ", "")


def test_with_one_they_are_sealed_until_it_is_over(database: Database) -> None:
    job_id = ended(database, days=30)
    assert pictures(database, job_id) == [PICTURE]
    assert not lies_in_a_row(database)
    with database.transaction() as session:
        assert personal.due(session, limit=9, now=at(29 * DAY)) == []
    assert pictures(database, job_id) == [PICTURE]
    with database.transaction() as session:
        (over,) = personal.due(session, limit=9, now=at(31 * DAY))
        assert over.job_id == job_id
        sealed = session.scalar(text("SELECT CAST(report AS TEXT) FROM jobs"))
    assert '"png":null' in str(sealed).replace(" ", ""), "not even sealed"
    assert pictures(database, job_id) == [None]


def test_a_retry_leaves_none(database: Database) -> None:
    job_id = ended(database, days=30)
    with database.transaction() as session:
        jobs.retry(
            session,
            job_id,
            tenant=TENANT,
            principal="x",
            stored=lambda _: True,
            now=at(2),
        )
        assert jobs.report(session, job_id) is None


def test_what_another_key_sealed_is_not_shown() -> None:
    report = painted_report()
    sealed = painted.stored(report, key := DataKey.random())
    assert painted.shown(sealed, key) == report, "the control"
    for other in (DataKey.random(), None):
        assert [grid.png for grid in painted.shown(sealed, other).pictures] == [None]
    (grid,) = sealed.pictures
    assert base64.b64decode(PICTURE) not in base64.b64decode(grid.png or "")
