"""The janitor and the patch files that no row names: it deletes those that were noted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from front_world import PRINCIPAL, TENANT, World, make_world, register
from sqlalchemy import func, select

from api_schemas.reports import Verdict
from registry import jobs, patches
from registry.blobs import LocalBlobs
from registry.jobs import Job
from registry.tables import DraftRow
from service import background
from service.parts import now

OLD = timedelta(seconds=background.LEFTOVER_SECONDS + 60)


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[World]:
    """A front whose loops do not run."""
    made = make_world(tmp_path)
    made.parts.database.migrate()
    register(made)
    yield made
    made.parts.database.close()


def stored(world: World, job: Job, data: bytes, age: timedelta = OLD) -> str:
    """A patch file as a worker leaves it that dies before its row: noted, then stored."""
    digest = world.parts.blobs.put(data)
    with world.parts.database.transaction() as session:
        jobs.draft(session, job.id, job.token, digest, now=now() - age)
    return digest


def cancel(world: World, job: Job) -> None:
    """The job ends as it does when its worker is dead."""
    world.expire(job)
    with world.parts.database.transaction() as session:
        jobs.cancel(session, job.id, tenant=TENANT, principal=PRINCIPAL, now=now())
        jobs.reap(session, max_attempts=3, now=now())
    assert world.job(job.id).status.is_final


def notes(world: World) -> int:
    with world.parts.database.reading() as session:
        return session.scalar(select(func.count()).select_from(DraftRow)) or 0


def claimed(world: World) -> Job:
    world.accept()
    return world.claim()


def test_the_file_of_a_worker_that_died_goes_when_its_job_has_ended_otherwise(
    idle: World,
) -> None:
    job = claimed(idle)
    left = stored(idle, job, b"left")
    young = stored(idle, job, b"young", age=timedelta())
    background.sweep(idle.parts)
    assert idle.parts.blobs.exists(left), "the job runs"
    cancel(idle, job)
    for _ in range(2):
        background.sweep(idle.parts)
        assert not idle.parts.blobs.exists(left)
        assert idle.parts.blobs.exists(young)
        assert notes(idle) == 1


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.FAIL])
def test_what_a_patch_names_stays_whoever_else_made_it(idle: World, verdict: Verdict) -> None:
    done = idle.finished(verdict)
    assert done.patch_id is not None
    with idle.parts.database.reading() as session:
        file = patches.get(session, done.patch_id).sha256
    died = claimed(idle)
    with idle.parts.database.transaction() as session:
        jobs.draft(session, died.id, died.token, file, now=now() - OLD)
    cancel(idle, died)
    background.sweep(idle.parts)
    assert idle.parts.blobs.exists(file)
    assert notes(idle) == 0


def test_a_front_on_an_empty_database_deletes_no_patch(idle: World, tmp_path: Path) -> None:
    """Nothing there names the files; who goes by that deletes every patch there is."""
    job = claimed(idle)
    kept = {idle.parts.blobs.put(b"a patch"), stored(idle, job, b"left")}
    cancel(idle, job)
    folder = idle.parts.settings.blob_folder
    empty = make_world(tmp_path / "other")
    empty.parts.database.migrate()
    object.__setattr__(empty.parts, "blobs", LocalBlobs(folder))
    background.sweep(empty.parts)
    assert kept <= set(empty.parts.blobs.digests())
    empty.parts.database.close()
    background.sweep(idle.parts)
    assert len(kept & set(idle.parts.blobs.digests())) == 1, "the control"


def test_a_deletion_that_fails_is_done_again(idle: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job = claimed(idle)
    left = stored(idle, job, b"left")
    cancel(idle, job)
    delete = idle.parts.blobs.delete

    def dies(digest: str) -> None:
        delete(digest)
        raise OSError("after the file, before the commit")

    monkeypatch.setattr(idle.parts.blobs, "delete", dies)
    with pytest.raises(OSError, match="before the commit"):
        background.sweep(idle.parts)
    assert notes(idle) == 1
    monkeypatch.undo()
    background.sweep(idle.parts)
    assert notes(idle) == 0
    assert not idle.parts.blobs.exists(left)
