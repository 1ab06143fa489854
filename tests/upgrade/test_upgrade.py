"""A data folder and a patch of the first release are opened by this one, and its jobs go on.

``golden/first`` was written by the code of commit 9546f77: a job that made a patch, one that was
canceled, one whose worker died and one that waits. Afterwards only paths and a host name in it
were replaced. ``golden/worker_0007.json`` is what a worker of commit 9eb26ee says to its database.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import record_worker
from fastapi.testclient import TestClient
from sqlalchemy import make_url, text

from api_schemas.access import Scope
from api_schemas.jobs import JobStatus, Outcome
from cli.shipped import checkpoint_folder
from patches import apply, verify
from patches.folder import parse_manifest, write_patch
from registry import installation, jobs, keys, personal, schema, tenants
from registry.database import Database
from registry.settings import Settings
from registry.tables import AuditRow
from service.app import create_app
from service.broker import MemoryBroker
from worker import release

GOLDEN = Path(__file__).parent / "golden"
MADE = "job_655eeaa6f3e4421eb0cc7e8cc14efdfd"
CANCELED = "job_32e1151493b84df387d12b89ec47b1ac"
DIED = "job_0fe1c0a6cfcb4164b480b302aba3542e"
WAITS = "job_65ba3d2bcf204924a97f8607ad152a00"
PATCH = "pat_2ae512d2d316444cb5b83a1c5df1b7e1"
#: After everything that the golden folder tells of.
LATER = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A copy of the folder, whose model lies where this machine has it."""
    folder = Path(shutil.copytree(GOLDEN / "first", tmp_path / "data"))
    with sqlite3.connect(folder / "razor.db") as connection:
        moved = ("/srv/razor/weights/clip", str(checkpoint_folder()))
        connection.execute("UPDATE models SET record = replace(record, ?, ?)", moved)
    connection.close()
    return Settings(data_folder=folder, recovery_seconds=600, relay_seconds=600)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """Its database, migrated."""
    made = Database(settings.database, installation.load(settings.key_path))
    made.migrate()
    yield made
    made.close()


def test_the_front_shows_what_the_first_release_left(settings: Settings, tmp_path: Path) -> None:
    app = create_app(settings, broker=MemoryBroker())
    with TestClient(app) as http:
        with app.state.parts.database.transaction() as session:
            tenants.ensure(session, "default", actor="operator", now=LATER)
            key = keys.create(
                session, tenant="default", name="test", scopes=tuple(Scope), expires_at=None,
                actor="operator", now=LATER,
            )  # fmt: skip
        http.headers["authorization"] = f"Bearer {key.text}"
        seen = {job["id"]: job["status"] for job in http.get("/jobs").json()["items"]}
        assert seen.keys() == {MADE, CANCELED, DIED, WAITS}
        assert (seen[MADE], seen[CANCELED]) == ("succeeded", "canceled")
        assert {seen[DIED], seen[WAITS]} <= {"queued", "running"}
        report = http.get(f"/jobs/{MADE}/evaluation").json()
        assert report["gate"]["verdict"] == "pass"
        assert report["weights_changed"] > 0
        page = http.get(f"/jobs/{MADE}/report.html")
        assert page.status_code == 200
        assert "not measured" in page.text  # a figure that this release did not know yet
        numbers = [
            entry["number"] for entry in http.get("/models/reference-clip/versions").json()["items"]
        ]
        assert numbers == [0, 1]
        manifest = parse_manifest(
            json.dumps(http.get(f"/patches/{PATCH}").json()["manifest"]).encode()
        )
        values = http.get(f"/patches/{PATCH}/patch.safetensors").content
        streamed = http.get(f"/patches/{PATCH}/weights").content
    file = tmp_path / "values"
    file.write_bytes(values)
    assert hashlib.sha256(values).hexdigest() == manifest.patch_sha256
    patch = write_patch(tmp_path / "patch", manifest, file)
    checks = verify.verify(patch.file.parent, checkpoint_folder())
    assert [check.name for check in checks if not check.passed] == []
    apply.apply(patch.file.parent, checkpoint_folder(), tmp_path / "patched")
    assert (tmp_path / "patched" / "open_clip_model.safetensors").read_bytes() == streamed
    back = apply.revert(tmp_path / "patched", tmp_path / "back").folder
    name = "open_clip_model.safetensors"
    assert (back / name).read_bytes() == (checkpoint_folder() / name).read_bytes()


def test_the_manifest_as_the_first_release_wrote_it_is_read() -> None:
    with sqlite3.connect(GOLDEN / "first" / "razor.db") as connection:
        ((raw,),) = connection.execute("SELECT manifest FROM patches").fetchall()
    connection.close()
    assert parse_manifest(raw.encode()).model.id == "reference-clip"


def test_jobs_that_were_under_way_go_on(settings: Settings, database: Database) -> None:
    """Whose worker died is queued again; both are claimed, readable, and come to an end."""
    with database.transaction() as session:
        reaped = jobs.reap(session, max_attempts=3, now=LATER)
    assert reaped.requeued == [DIED]
    blobs = create_app(settings, broker=MemoryBroker()).state.parts.blobs
    for job_id, name in ((DIED, "Oskar Brill"), (WAITS, "Sami Orvane")):
        with database.transaction() as session:
            job = jobs.claim(session, worker="new:1", lease_seconds=15, now=LATER)
        assert job is not None
        assert (job.id, job.request.wanted()[0].name) == (job_id, name)
        assert len(job.samples) == 4
        for digest in job.samples:
            with blobs.open(digest) as file:
                assert file.read(8) == b"\x89PNG\r\n\x1a\n"
        with database.transaction() as session:
            done = jobs.finish(
                session, job.id, job.token, status=JobStatus.SUCCEEDED,
                outcome=Outcome.NOTHING_TO_FORGET, now=LATER,
            )  # fmt: skip
        assert done.status is JobStatus.SUCCEEDED


def test_what_the_first_release_kept_of_people_is_deleted_when_due(database: Database) -> None:
    with database.transaction() as session:
        due = personal.due(session, limit=10, now=LATER)
        assert {one.job_id for one in due} == {MADE, CANCELED}
        personal.note_erased(session, due, LATER)
    rows = []
    with database.transaction() as session:
        for table in ("jobs", "personal"):
            rows += [repr(row) for row in session.execute(text(f"SELECT * FROM {table}"))]
    assert not any("Mara Venn" in row or "Juno Farrow" in row for row in rows)
    assert any("Sami Orvane" in row for row in rows)  # whose job still waits


def test_each_step_on_the_way_keeps_every_row(settings: Settings) -> None:
    folder = Path(schema.__file__).parent / "migrations" / "versions"
    steps = sorted(path.name[:4] for path in folder.glob("[0-9]*.py"))
    assert steps[0] == "0001"
    assert steps[-1] == schema.newest()
    for step in steps[1:]:
        schema.upgrade(make_url(settings.database), step)
        with sqlite3.connect(settings.data_folder / "razor.db") as connection:
            counts = {
                name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
                for name in ("jobs", "patches", "versions", "models", "idempotency")
            }
        connection.close()
        assert counts == {"jobs": 4, "patches": 1, "versions": 2, "models": 1, "idempotency": 4}
    assert schema.differences(make_url(settings.database)) == []


def replay(path: Path, said: list[list[Any]]) -> None:
    """The statements of one transaction, as the old worker sent them."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    try:
        for statement, values in said:
            rows = [base64.b64decode(v["bytes"]) if isinstance(v, dict) else v for v in values]
            connection.execute(statement, rows).fetchall()
        connection.execute("COMMIT")
    finally:
        connection.close()


def test_a_worker_of_an_earlier_release_ends_its_job_on_the_new_tables(
    settings: Settings, database: Database
) -> None:
    """The tables changed while it ran: what it says still means the same."""
    recorded = json.loads((GOLDEN / "worker_0007.json").read_text())
    assert recorded["job"] == DIED
    with database.transaction() as session:
        jobs.reap(session, max_attempts=3, now=record_worker.START)
    path = settings.data_folder / "razor.db"
    for step, status in (("claim", "running"), ("heartbeat", "running"), ("finish", "succeeded")):
        replay(path, recorded["steps"][step])
        with database.transaction() as session:
            job = jobs.get(session, DIED)
            assert job.status == status
    assert (job.attempts, job.outcome) == (2, Outcome.NOTHING_TO_FORGET)
    with database.transaction() as session:
        # Its lease was a lease: nobody else could have had the job, and the next one is free.
        following = jobs.claim(session, worker="new:1", lease_seconds=15, now=LATER)
        assert following is not None
        assert following.id == WAITS
        lines = session.query(AuditRow).count()
        assert lines >= 13


def test_a_worker_that_does_not_fit_the_database_claims_nothing(
    settings: Settings, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with database.transaction() as session:
        release.check(session)  # the control
        assert schema.found(session) == schema.newest()
    for revision, old in (("9999", True), ("0001", False)):
        with database.transaction() as session:
            session.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision})
        with database.transaction() as session, pytest.raises(release.OtherRelease) as other:
            release.check(session)
        assert other.value.worker_is_old is old
        assert revision in str(other.value)
        assert schema.newest() in str(other.value)
    empty = Database(f"sqlite:///{settings.data_folder / 'empty.db'}")
    with empty.transaction() as session, pytest.raises(release.OtherRelease):
        release.check(session)
    empty.close()
