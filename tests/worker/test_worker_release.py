"""A worker that is woken while its database is of another release leaves the job to others."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
from sqlalchemy import text

from api_schemas.jobs import JobStatus
from api_schemas.messages import RUN_TASK
from registry import installation, jobs, schema
from registry.database import Database
from registry.settings import Settings
from worker import release, runner
from worker.app import make_app

GOLDEN = Path(__file__).parents[1] / "upgrade" / "golden" / "first"
WAITS = "job_65ba3d2bcf204924a97f8607ad152a00"


def test_a_woken_worker_of_another_release_leaves_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An old one stops besides; a new one waits for the service to migrate."""
    settings = Settings(data_folder=Path(shutil.copytree(GOLDEN, tmp_path / "data")))
    database = Database(settings.database, installation.load(settings.key_path))
    database.migrate()
    stopped: list[str] = []
    caplog.set_level(logging.ERROR)
    task = make_app(settings).tasks[RUN_TASK]
    runner.close()
    for revision in ("9999", "0001"):
        monkeypatch.setattr(release, "stop_worker", lambda found=revision: stopped.append(found))
        with database.transaction() as session:
            session.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision})
        task(WAITS)
        assert f"revision {revision}, this worker is for {schema.newest()}" in caplog.text
    runner.close()
    assert stopped == ["9999"]
    with database.transaction() as session:
        job = jobs.get(session, WAITS)
        assert (job.status, job.attempts) == (JobStatus.QUEUED, 0)
    database.close()
