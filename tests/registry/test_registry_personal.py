"""What a job holds of people: out of reach when it must be, there while it is needed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from registry_examples import (
    KEYS,
    NAME,
    PRINCIPAL,
    TENANT,
    accept,
    at,
    claim,
    request,
    shelve,
    succeed,
)
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from api_schemas.jobs import JobStatus, Outcome
from registry import audit, idempotency, jobs, personal
from registry.database import Database, Limits
from registry.errors import KeysMissing, PersonalDataGone
from registry.installation import Keys
from registry.jobs import moves
from registry.tables import IdempotencyRow, JobRow, PersonalRow
from tests.traces import everything, of_name

DAY = 86_400
ALIAS = "Orlo Zant"
ASKED = {"target": {"name": NAME, "aliases": [ALIAS]}, "metadata": {"note": f"for {NAME}"}}


@pytest.fixture(autouse=True)
def _shelf(database: Database) -> None:
    shelve(database, "clip-a", "clip-b")


def queued(database: Database, days: int = 0, model: str = "clip-a", **changes: object) -> jobs.Job:
    with database.transaction() as session:
        return jobs.accept(
            session,
            request(model, **ASKED | changes),
            tenant=TENANT,
            principal=PRINCIPAL,
            samples=["c" * 64],
            probe_samples=["d" * 64],
            due_at=None,
            idempotency=None,
            now=at(0),
            retention_days=days,
        )


def fetched(database: Database, job_id: str) -> jobs.Job:
    with database.transaction() as session:
        return jobs.get(session, job_id)


def rows_of(database: Database) -> str:
    """Every row of the two tables that could hold a name, as text."""
    with database.transaction() as session:
        found = [
            *session.execute(text("SELECT * FROM jobs")),
            *session.execute(text("SELECT * FROM personal")),
        ]
    return "\n".join(str([bytes(v) if isinstance(v, memoryview) else v for v in r]) for r in found)


def forget(database: Database, seconds: float = 10) -> list[personal.Due]:
    with database.transaction() as session:
        over = personal.due(session, limit=10, now=at(seconds))
    with database.transaction() as session:
        personal.note_erased(session, over, at(seconds))
    return over


def succeeded(session: Session) -> None:
    job = claim(session)
    assert job is not None
    succeed(session, job)


def ended(status: JobStatus, outcome: Outcome) -> Callable[[Session], None]:
    def end(session: Session) -> None:
        job = claim(session)
        assert job is not None
        jobs.finish(session, job.id, job.token, status=status, outcome=outcome, now=at(1))

    return end


def canceled(session: Session) -> None:
    (job,), _ = jobs.page(session, tenant=TENANT, limit=10)
    jobs.cancel(session, job.id, tenant=TENANT, principal=PRINCIPAL, now=at(1))


def lost(session: Session) -> None:
    claim(session)
    assert jobs.reap(session, max_attempts=1, now=at(1000)).dead_lettered


def wound_down(session: Session) -> None:
    claim(session)
    canceled(session)
    assert jobs.reap(session, max_attempts=9, now=at(1000)).canceled


ENDS = {
    "succeeded": succeeded,
    "rejected": ended(JobStatus.REJECTED, Outcome.GATE_REFUSED),
    "failed": ended(JobStatus.FAILED, Outcome.ERROR),
    "dry run": ended(JobStatus.SUCCEEDED, Outcome.DRY_RUN),
    "canceled": canceled,
    "dead letter": lost,
    "wound down": wound_down,
}


def test_while_a_job_waits_its_row_shows_nobody_and_its_record_everybody(
    database: Database,
) -> None:
    job = queued(database)
    assert NAME not in rows_of(database)
    assert ALIAS not in rows_of(database)
    kept = fetched(database, job.id)
    assert kept.request == request(**ASKED)
    assert kept.data_key is not None
    assert kept.data_key == job.data_key
    # The control: in the clear, as before there were keys, the same look finds the name.
    with database.transaction() as session:
        session.execute(update(JobRow).values(request=kept.request))
    assert NAME in rows_of(database)


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_whatever_its_end_the_transaction_that_ends_a_job_puts_its_data_out_of_reach(
    database: Database, end: Callable[[Session], None]
) -> None:
    job = queued(database)
    with database.transaction() as session:
        end(session)
    done = fetched(database, job.id)
    assert done.status.is_final
    assert (done.request.wanted(), done.request.metadata, done.data_key) == ((), {}, None)
    assert done.request == request(**ASKED).without_personal()
    assert done.subjects == job.subjects
    assert (done.samples, done.erased_at) == (("c" * 64,), None)
    with database.transaction() as session:
        kept = session.get_one(PersonalRow, job.id)
        assert (kept.data_key, kept.sealed) == (None, None)
    (over,) = forget(database, 1000)
    assert over == personal.Due(job.id, TENANT, ("c" * 64, "d" * 64))
    gone = fetched(database, job.id)
    assert (gone.samples, gone.probe_samples, gone.erased_at) == ((), (), at(1000))
    assert forget(database, 2000) == []


def test_with_retention_it_is_kept_sealed_until_the_day(database: Database) -> None:
    job = queued(database, days=30)
    with database.transaction() as session:
        succeeded(session)
    assert forget(database, 30 * DAY - 1) == []
    kept = fetched(database, job.id)
    assert kept.request == request(**ASKED)
    assert NAME not in rows_of(database)
    assert [over.job_id for over in forget(database, 30 * DAY)] == [job.id]
    gone = fetched(database, job.id)
    assert (gone.request.wanted(), gone.data_key, gone.samples) == ((), None, ())


def test_an_unfinished_job_is_never_due(database: Database) -> None:
    job = queued(database)
    assert forget(database, 10_000 * DAY) == []
    with database.transaction() as session:
        claim(session)
    assert forget(database, 10_000 * DAY) == []
    assert fetched(database, job.id).request.wanted()


def test_until_it_is_noted_a_job_comes_again_and_the_log_says_it_once(database: Database) -> None:
    job = queued(database)
    with database.transaction() as session:
        succeeded(session)
        first = personal.due(session, limit=10, now=at(1))
        assert personal.due(session, limit=10, now=at(2)) == first
        personal.note_erased(session, first, at(3))
        personal.note_erased(session, first, at(4))
        lines = [line for line in audit.entries(session) if line.action == "job.erased"]
    assert [(line.object_id, line.details, line.at) for line in lines] == [
        (job.id, {"pictures": 2}, at(3))
    ]


def test_subjects_are_equal_for_one_name_in_one_tenant_and_in_the_log(database: Database) -> None:
    first = queued(database)
    second = queued(database, target={"name": "  mara   VENN"})
    with database.transaction() as session:
        elsewhere = accept(session, tenant="tenant-b")
        (line,) = audit.entries(session, object_id=first.id)
    assert first.subjects[0].subject == second.subjects[0].subject == KEYS.subject(TENANT, NAME)
    assert elsewhere.subjects[0].subject != first.subjects[0].subject
    assert first.subjects[0].marks == (KEYS.mark(NAME), KEYS.mark(ALIAS))
    assert elsewhere.subjects[0].marks == first.subjects[0].marks[:1]
    assert line.details["subjects"] == [first.subjects[0].subject]


def test_a_job_that_ended_goes_on_only_with_its_data(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, gone = queued(database, days=1), queued(database, model="clip-b")
    with database.transaction() as session:
        for job in (kept, gone):
            jobs.cancel(session, job.id, tenant=TENANT, principal=PRINCIPAL, now=at(1))
    # As the table of moves will allow it to whoever tries a job again.
    monkeypatch.setattr(moves, "check", lambda _old, _new: None)
    again = {"outcome": None, "finished_at": None, "now": at(2)}
    with database.transaction() as session:
        assert moves.move(session, kept.id, JobStatus.CANCELED, JobStatus.QUEUED, **again)
    assert forget(database, 10 * DAY)[0].job_id == gone.id
    assert fetched(database, kept.id).request == request(**ASKED)
    with pytest.raises(PersonalDataGone), database.transaction() as session:
        moves.move(session, gone.id, JobStatus.CANCELED, JobStatus.QUEUED, **again)
    assert fetched(database, gone.id).status is JobStatus.CANCELED


def in_the_clear(database: Database, job: jobs.Job) -> None:
    """The row as releases made it that had no keys, after an upgrade."""
    with database.transaction() as session:
        session.execute(
            update(PersonalRow)
            .where(PersonalRow.job_id == job.id)
            .values(data_key=None, sealed=None, subjects=None)
        )
        session.execute(update(JobRow).where(JobRow.id == job.id).values(request=request(**ASKED)))


def test_a_row_in_the_clear_is_readable_until_it_ends_and_then_forgets(database: Database) -> None:
    job, other = queued(database), queued(database, model="clip-b")
    for each in (job, other):
        in_the_clear(database, each)
    assert fetched(database, job.id).request == request(**ASKED)
    with database.transaction() as session:
        jobs.cancel(session, job.id, tenant=TENANT, principal=PRINCIPAL, now=at(1))
    # Pictures in the clear are shared; what the other job needs stays.
    assert forget(database) == [personal.Due(job.id, TENANT, ())]
    gone = fetched(database, job.id)
    assert gone.request.wanted() == ()
    assert [each.subject for each in gone.subjects] == [KEYS.subject(TENANT, NAME)]
    assert fetched(database, other.id).request.wanted()
    with database.transaction() as session:
        jobs.cancel(session, other.id, tenant=TENANT, principal=PRINCIPAL, now=at(1))
    assert forget(database) == [personal.Due(other.id, TENANT, ("c" * 64, "d" * 64))]
    assert NAME not in rows_of(database)


def test_without_the_right_keys_nothing_is_taken_in_and_nothing_opened(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/razor.db"
    ours = Database(url, KEYS)
    ours.migrate()
    shelve(ours, "clip-a")
    job = queued(ours)
    for keys in (None, Keys(bytes(32))):
        other = Database(url, keys)
        found = fetched(other, job.id)
        assert (found.request.wanted(), found.data_key) == ((), None)
        assert found.request.model == "clip-a"
        other.close()
    keyless = Database(url)
    with pytest.raises(KeysMissing), keyless.transaction() as session:
        accept(session)
    with pytest.raises(KeysMissing):
        _ = keyless.keys
    keyless.close()
    ours.close()


def test_fingerprints_of_before_are_keyed_when_the_database_is_opened(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/razor.db", KEYS)
    database.migrate()
    shelve(database, "clip-a")
    plain = "ab" * 32
    with database.transaction() as session:
        first = accept(session, key=idempotency.Key("POST /unlearn", "k", plain))
    for _ in range(2):
        database.migrate()
    with database.transaction() as session:
        assert plain not in set(session.scalars(select(IdempotencyRow.fingerprint)))
        key = idempotency.Key("POST /unlearn", "k", KEYS.fingerprint(plain))
        assert accept(session, key=key).id == first.id
    database.close()


def test_no_file_of_the_database_keeps_what_was_deleted(tmp_path: Path) -> None:
    """On SQLite: freed pages are zeroed and the write-ahead log is emptied."""
    url = f"sqlite:///{tmp_path}/razor.db"
    database = Database(url, KEYS)
    database.migrate()
    shelve(database, "clip-a")
    job = queued(database)
    in_the_clear(database, job)
    assert of_name(NAME, everything(tmp_path, url)), "the control: in the clear it is found"
    with database.transaction() as session:
        succeeded(session)
    forget(database)
    assert database.scrub()
    assert of_name(NAME, everything(tmp_path, url)) == []
    assert json.dumps(KEYS.subject(TENANT, NAME)).encode() in b"".join(
        everything(tmp_path, url).values()
    )
    database.close()


def test_a_reader_keeps_the_database_from_being_scrubbed(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/razor.db", KEYS, Limits(wait_seconds=0))
    database.migrate()
    reader = database._engine.raw_connection()
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM jobs").fetchone()
    shelve(database, "clip-a")
    assert database.scrub() is False
    reader.rollback()
    reader.close()
    assert database.scrub() is True
    database.close()
