"""Patch files without a row: what was noted is found, and nobody's file is deleted under them."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from registry_examples import (
    PRINCIPAL,
    TENANT,
    accept,
    at,
    claim,
    new_patch,
    report,
    request,
    shelve,
)
from sqlalchemy import event, select

from api_schemas.jobs import JobStatus, Outcome
from registry import drafts, jobs
from registry.blobs import LocalBlobs
from registry.database import Database
from registry.errors import LeaseLost
from registry.patches import NewPatch
from registry.tables import DraftRow

FILE, OTHER = "d" * 64, "e" * 64
#: Whatever was noted before is old.
LATE = at(3600)


@pytest.fixture(autouse=True)
def _shelf(database: Database) -> None:
    shelve(database, "clip-a", "clip-b")


def claimed(database: Database, model: str = "clip-a") -> jobs.Job:
    with database.transaction() as session:
        accept(session, request(model), retention_days=9)
        job = claim(session)
    assert job is not None
    assert job.request.model == model
    return job


def note(database: Database, job: jobs.Job, file: str = FILE, seconds: float = 0) -> None:
    with database.transaction() as session:
        jobs.draft(session, job.id, job.token, file, now=at(seconds))


def cancel(database: Database, job: jobs.Job) -> None:
    """The job ends without a patch."""
    end = {"status": JobStatus.CANCELED, "outcome": Outcome.CANCELED}
    with database.transaction() as session:
        jobs.cancel(session, job.id, tenant=TENANT, principal=PRINCIPAL, now=at(1))
        jobs.finish(session, job.id, job.token, **end, now=at(2))


def reject(database: Database, job: jobs.Job, file: str = FILE) -> None:
    """The job ends with this file as its candidate."""
    made = new_patch(job.request.model)
    patch = NewPatch(made.id, file, made.bytes, made.manifest)
    end = {"status": JobStatus.REJECTED, "outcome": Outcome.GATE_REFUSED, "report": report()}
    with database.transaction() as session:
        jobs.finish(session, job.id, job.token, **end, patch=patch, now=at(2))


def noted(database: Database) -> set[tuple[str, str]]:
    with database.transaction() as session:
        rows = session.execute(select(DraftRow.sha256, DraftRow.job_id)).all()
    return {(file, job_id) for file, job_id in rows}


def abandoned(database: Database, limit: int = 9) -> list[str]:
    with database.reading() as session:
        return drafts.abandoned(session, before=LATE, limit=limit)


def drop(database: Database, file: str = FILE) -> bool:
    with database.transaction() as session:
        return drafts.drop(session, file, before=LATE)


def test_a_patch_settles_its_own_note_and_no_other(database: Database) -> None:
    job = claimed(database)
    for file in (FILE, FILE, OTHER):
        note(database, job, file)
    assert noted(database) == {(FILE, job.id), (OTHER, job.id)}
    reject(database, job)
    assert noted(database) == {(OTHER, job.id)}, "an attempt made other bytes, and died"
    assert abandoned(database) == [OTHER]
    assert drop(database, OTHER)
    assert noted(database) == set()


def test_a_file_is_dropped_once_its_job_has_ended_without_it(database: Database) -> None:
    job = claimed(database)
    note(database, job)
    assert abandoned(database) == []
    assert not drop(database)
    cancel(database, job)
    assert abandoned(database) == [FILE]
    assert drop(database)
    assert noted(database) == set()
    assert abandoned(database) == []
    assert not drop(database), "what was not noted is nobody's to delete"


def test_a_young_note_stays_and_noting_again_makes_it_young(database: Database) -> None:
    job = claimed(database)
    note(database, job)
    note(database, job, seconds=3600)
    cancel(database, job)
    assert abandoned(database) == []
    assert not drop(database)
    assert noted(database) == {(FILE, job.id)}
    with database.transaction() as session:
        assert drafts.drop(session, FILE, before=at(3601)), "the control"


def test_a_file_that_a_patch_names_stays(database: Database) -> None:
    died, other = claimed(database), claimed(database, "clip-b")
    for job in (died, other):
        note(database, job)
    reject(database, other)
    cancel(database, died)
    assert abandoned(database) == [FILE]
    assert not drop(database)
    assert noted(database) == set(), "but its note goes"


def test_a_file_that_another_job_is_at_stays_until_that_ends(database: Database) -> None:
    died, other = claimed(database), claimed(database, "clip-b")
    for job in (died, other):
        note(database, job)
    cancel(database, died)
    assert not drop(database)
    assert noted(database) == {(FILE, other.id)}
    cancel(database, other)
    assert drop(database)


def test_a_job_that_runs_again_keeps_its_file(database: Database) -> None:
    job = claimed(database)
    note(database, job)
    cancel(database, job)
    with database.transaction() as session:
        again = {"tenant": TENANT, "principal": PRINCIPAL, "stored": lambda _: True, "now": at(70)}
        jobs.retry(session, job.id, **again)
    assert abandoned(database) == []
    assert not drop(database)
    assert noted(database) == {(FILE, job.id)}


def test_who_lost_the_lease_notes_nothing(database: Database) -> None:
    job = claimed(database)
    with database.transaction() as session:
        jobs.reap(session, max_attempts=3, now=at(60))
    with pytest.raises(LeaseLost):
        note(database, job)
    assert noted(database) == set()


def test_the_oldest_come_first_and_each_file_once(database: Database) -> None:
    first, second = claimed(database), claimed(database, "clip-b")
    note(database, first, OTHER, seconds=1)
    note(database, second, OTHER, seconds=3)
    note(database, second, FILE, seconds=2)
    for job in (first, second):
        cancel(database, job)
    assert abandoned(database) == [OTHER, FILE]
    assert abandoned(database, limit=1) == [OTHER]


class Alongside:
    """Something done in a thread of its own."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._action = action
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def waits(self) -> bool:
        """Whether it is still at it after a while."""
        self._thread.join(0.4)
        return self._thread.is_alive()

    def end(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()
        if self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        try:
            self._action()
        except BaseException as failure:
            self._failed = failure


def test_who_makes_a_file_that_is_being_dropped_stores_it_again(
    database: Database, tmp_path: Path
) -> None:
    """The janitor stands between its look and its deletion: a worker with the same bytes waits."""
    blobs = LocalBlobs(tmp_path / "blobs")
    file = blobs.put(b"a patch")
    died, other = claimed(database), claimed(database, "clip-b")
    note(database, died, file)
    cancel(database, died)

    def store() -> None:
        note(database, other, file)
        (tmp_path / "patch").write_bytes(b"a patch")
        assert blobs.put_file(tmp_path / "patch") == file

    with database.transaction() as session:
        assert drafts.drop(session, file, before=LATE)
        worker = Alongside(store)
        assert worker.waits(), "or it finds the file, writes none, and then it is deleted"
        blobs.delete(file)
    worker.end()
    assert blobs.exists(file)
    reject(database, other, file)
    assert not drop(database, file)


def test_who_drops_a_file_that_is_being_noted_leaves_it(database: Database) -> None:
    died, other = claimed(database), claimed(database, "clip-b")
    note(database, died)
    cancel(database, died)
    said: list[bool] = []
    with database.transaction() as session:
        jobs.draft(session, other.id, other.token, FILE, now=at(0))
        janitor = Alongside(lambda: said.append(drop(database)))
        assert janitor.waits()
    janitor.end()
    assert said == [False]
    assert noted(database) == {(FILE, other.id)}


def dropped_while_a_job_ends(database: Database, place: int) -> tuple[int, bool]:
    """How many statements it took, and what was said; the job ends before the one at ``place``."""
    file = hashlib.sha256(bytes([place])).hexdigest()
    died, other = claimed(database), claimed(database, "clip-b")
    for job in (died, other):
        note(database, job, file)
    cancel(database, died)
    statements = 0

    def heard(*_: object) -> None:
        nonlocal statements
        statements += 1
        if statements == place:
            reject(database, other, file)

    with database.transaction() as session:
        event.listen(session.connection(), "before_cursor_execute", heard)
        said = drafts.drop(session, file, before=LATE)
    return statements, said


# SQLite's transactions follow one another.
@pytest.mark.parametrize(
    "database", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)
def test_a_file_whose_job_ends_with_it_meanwhile_stays(database: Database) -> None:
    """Its note turns into a patch between any two statements of whoever drops the file."""
    for place in itertools.count(1):
        statements, said = dropped_while_a_job_ends(database, place)
        assert not said
        if place > statements:
            break
    assert statements > 1


def test_files_take_turns_by_themselves(database: Database) -> None:
    """The lock's number is made of a digest, whatever its first bits are."""
    job = claimed(database)
    files = [hashlib.sha256(bytes([number])).hexdigest() for number in range(8)]
    files += ["f" * 64, "7" + "f" * 63, "8" + "0" * 63, "0" * 64]
    for file in files:
        note(database, job, file)
    cancel(database, job)
    assert sorted(abandoned(database, 99)) == sorted(files)
    assert all(drop(database, file) for file in files)
