"""A worker that dies between a patch's file and its row: the janitor finds the file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from registry import failpoints, jobs
from registry.blobs import LocalBlobs
from registry.failpoints import Point
from registry.tables import DraftRow
from service import background
from service.app import create_app
from service.broker import MemoryBroker
from service.parts import Parts
from tests.worker.conftest import Desk
from tests.worker.test_worker_runs import SHORT, patch_digest, wait_for

WORK = """
import sys
from registry.settings import Settings
from worker import runner
runner.work(Settings(data_folder=sys.argv[1]))
"""


@pytest.fixture
def janitor(desk: Desk) -> Iterator[Parts]:
    """A front on the desk's data folder, whose loops do not run."""
    parts = create_app(desk.settings, broker=MemoryBroker()).state.parts
    yield parts
    parts.database.close()


def die_before_the_commit(desk: Desk, points: Path) -> None:
    """A worker claims a job, stores its patch's file, writes its row, and is killed."""
    points.mkdir()
    (points / f"{Point.BEFORE_COMMIT}.armed").touch()
    here = points / f"{Point.BEFORE_COMMIT}.here"
    environment = {**os.environ, failpoints.VARIABLE: str(points)}
    command = [sys.executable, "-c", WORK, str(desk.settings.data_folder)]
    with subprocess.Popen(command, env=environment) as worker:
        try:
            wait_for(lambda: here.exists() or worker.poll() is not None, 120)
        finally:
            worker.kill()
    assert worker.returncode == -signal.SIGKILL


def noted(desk: Desk) -> set[tuple[str, str]]:
    with desk.database.reading() as session:
        rows = session.execute(select(DraftRow.sha256, DraftRow.job_id)).all()
    return {(digest, job_id) for digest, job_id in rows}


def ended_with_a_patch(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> str:
    """The digest of a patch whose file was noted when it was stored, and is no more."""
    job_id = desk.submit("Mara Venn", **SHORT)
    put_file = LocalBlobs.put_file
    seen: list[set[tuple[str, str]]] = []

    def put(blobs: LocalBlobs, path: Path) -> str:
        seen.append(noted(desk))
        return put_file(blobs, path)

    with monkeypatch.context() as patched:
        patched.setattr(LocalBlobs, "put_file", put)
        desk.work()
    digest = patch_digest(desk, job_id)
    assert seen == [{(digest, job_id)}]
    assert noted(desk) == set()
    return digest


def test_the_file_of_a_worker_that_was_killed_goes_and_a_patch_stays(
    desk: Desk, janitor: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch = ended_with_a_patch(desk, monkeypatch)
    before = set(desk.blobs.digests())
    job_id = desk.submit("Oskar Brill", **SHORT)
    pictures = set(desk.blobs.digests()) - before
    die_before_the_commit(desk, tmp_path / "points")
    (left,) = set(desk.blobs.digests()) - before - pictures
    assert noted(desk) == {(left, job_id)}
    later = datetime.now(UTC) + timedelta(hours=1)
    with desk.database.transaction() as session:
        jobs.cancel(session, job_id, tenant=None, principal="tester", now=datetime.now(UTC))
        assert jobs.reap(session, max_attempts=3, now=later).canceled == [job_id]
    background.sweep(janitor)
    assert desk.blobs.exists(left), "it is young"
    with desk.database.transaction() as session:
        old = datetime.now(UTC) - timedelta(seconds=background.LEFTOVER_SECONDS + 60)
        session.execute(update(DraftRow).values(noted_at=old))
    background.sweep(janitor)
    assert not desk.blobs.exists(left)
    assert desk.blobs.exists(patch)
    assert noted(desk) == set()
