"""A version is taken back: the line ends before it, and what stood on it is made anew or named."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable

import pytest
import registry_examples
from registry_examples import PRINCIPAL, START, TENANT, at, claim, request, shelve, succeed
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from api_schemas.decisions import Revoked
from api_schemas.events import EventType
from api_schemas.jobs import JobStatus
from api_schemas.reasons import RevocationReason
from registry import audit, events, jobs, models, patches, personal, revoking
from registry.database import Database
from registry.errors import (
    BaseNotRevocable,
    ModelNotFound,
    RevocationBlocked,
    StaleParent,
    VersionNotFound,
    VersionWithdrawn,
)
from registry.tables import JobRow, OutboxRow, VersionRow

REASON = RevocationReason.WRONG_TARGET
#: Requests whose names and pictures outlive the job's end.
accept = functools.partial(registry_examples.accept, retention_days=30)


def revoke(
    session: Session,
    number: int,
    *,
    tenant: str | None = TENANT,
    stored: Callable[[str], bool] = lambda _: True,
) -> Revoked:
    return revoking.revoke(
        session,
        "clip-a",
        number,
        tenant=tenant,
        principal=PRINCIPAL,
        reason=REASON,
        stored=stored,
        now=at(50),
    )


def edited(session: Session, *, tenant: str = TENANT, sample: str = "c") -> str:
    """One more version; the id of the job that made it."""
    accept(session, tenant=tenant, samples=[sample * 64], due_at=at(10_000))
    return run(session)


def run(session: Session) -> str:
    job = claim(session)
    assert job is not None
    return succeed(session, job).id


def line(session: Session) -> list[tuple[int, int | None]]:
    """The versions that are not revoked, each with its parent."""
    return [(v.number, v.parent) for v in models.versions(session, "clip-a") if not v.revoked_at]


def test_the_line_is_made_anew_without_the_revoked_version(database: Database) -> None:
    shelve(database, "clip-a")
    with database.transaction() as session:
        first, second, third = (edited(session) for _ in range(3))
        waiting = accept(session, due_at=at(60)).id
        told = revoke(session, 1)
        assert (told.latest_version, line(session)) == (0, [(0, None)])
        assert [(a.version, a.job_id, a.state) for a in told.affected] == [
            (2, second, "queued"),
            (3, third, "queued"),
        ]
        assert revoke(session, 1) == told, "sent twice, done once"
        # In their order, and before a job that is due earlier than they are.
        made = [run(session) for _ in told.affected]
        assert made == [a.rerun for a in told.affected]
        assert line(session) == [(0, None), (4, 0), (5, 4)]
        assert run(session) == waiting
        assert models.get(session, "clip-a").latest_version == 6
        assert [p.job_id for p in models.lineage(session, "clip-a", 6)] == [*made, waiting]
        again = jobs.get(session, made[0])
        assert (again.rerun_of, again.request) == (second, jobs.get(session, second).request)
        assert (again.samples, again.due_at) == (("c" * 64,), at(10_000))
        old = jobs.get(session, second)
        assert (old.rerun, old.version_revoked_at, old.model_version) == (made[0], at(50), 2)
        assert jobs.get(session, first).rerun is None


def test_a_request_that_nothing_is_kept_of_is_named_and_the_others_get_their_own_seal(
    database: Database,
) -> None:
    shelve(database, "clip-a")
    with database.transaction() as session:
        edited(session)
        accept(session, retention_days=0)
        gone, kept = run(session), edited(session)
        # The control: files alone do not make it run again.
        told = revoke(session, 1, stored=lambda _: True)
        assert [(a.job_id, a.state) for a in told.affected] == [
            (gone, "post_again"),
            (kept, "queued"),
        ]
        rerun = told.affected[1].rerun
        assert rerun is not None
        old, new = jobs.get(session, kept), jobs.get(session, rerun)
        assert (new.request.wanted(), new.data_key) == (old.request.wanted(), old.data_key)
        assert new.subjects == old.subjects != ()
        assert personal.retention_days(session, rerun) == 30
        raw = session.execute(select(JobRow.request).where(JobRow.id == rerun)).scalar_one()
        assert raw.wanted() == ()
        # The original's time is over first: the pictures that both name stay.
        (due,) = personal.due(session, limit=1, now=at(50 + 86_400 * 31))
        assert due.blobs == ()
        told_of = events.after(session, rerun, 0, tenant=TENANT, limit=9)
        assert [one.type for one in told_of] == [EventType.ACCEPTED]
        numbers = events.after(session, run(session), 0, tenant=TENANT, limit=9)
        assert numbers[-1].data.model_version == 4


def test_what_was_revoked_stays_readable(database: Database) -> None:
    shelve(database, "clip-a")
    with database.transaction() as session:
        made = [edited(session) for _ in range(2)]
        revoke(session, 1)
        assert [p.job_id for p in models.lineage(session, "clip-a", 2)] == made
        base, one, two = models.versions(session, "clip-a")
        assert (base.revoked_at, one.revoked_reason, one.revoked_with) == (None, REASON, None)
        assert (two.revoked_at, two.revoked_reason, two.revoked_with) == (at(50), None, 1)
        patch_id = jobs.get(session, made[1]).patch_id
        assert patch_id is not None
        assert patches.get(session, patch_id, TENANT).version == 2
        actions = [entry.action for entry in audit.entries(session, object_id="clip-a")]
        assert actions == ["model.added", "version.revoked"]


def test_a_request_whose_pictures_are_gone_is_named_and_never_dropped(database: Database) -> None:
    shelve(database, "clip-a")
    with database.transaction() as session:
        edited(session)
        kept, gone = edited(session, sample="d"), edited(session, sample="e")
        told = revoke(session, 1, stored=lambda digest: digest[0] != "e")
        assert [(a.job_id, a.state, a.rerun is None) for a in told.affected] == [
            (kept, "queued", False),
            (gone, "post_again", True),
        ]
        (entry,) = (e for e in audit.entries(session, object_id=gone) if "withdrawn" in e.action)
        assert entry.details == {"version": 3, "revoked_with": 1, "rerun": None}


def test_the_last_version_takes_nothing_along(database: Database) -> None:
    shelve(database, "clip-a")
    with database.transaction() as session:
        edited(session), edited(session)
        session.query(OutboxRow).delete()
        waiting = accept(session).id
        session.query(OutboxRow).delete()
        told = revoke(session, 2)
        assert (told.affected, line(session)) == ([], [(0, None), (1, 0)])
        # Its own wake-up may have come while the model was locked.
        assert list(session.scalars(select(OutboxRow.job_id))) == [waiting]
        edited(session)
        assert line(session) == [(0, None), (1, 0), (3, 1)]


def test_what_cannot_be_revoked(database: Database) -> None:
    shelve(database, "clip-a")
    with database.transaction() as session:
        edited(session), edited(session)
        for number, error in ((0, BaseNotRevocable), (3, VersionNotFound)):
            with pytest.raises(error):
                revoke(session, number)
        with pytest.raises(VersionNotFound):
            revoke(session, 1, tenant="tenant-b")
        revoke(session, 1)
        with pytest.raises(VersionWithdrawn):
            revoke(session, 2)
        with pytest.raises(ModelNotFound):
            models.lock(session, "clip-z")


def test_one_tenants_revocation_brings_back_nobody_of_another(database: Database) -> None:
    shelve(database, "clip-a")
    with database.transaction() as session:
        edited(session)
        theirs = edited(session, tenant="tenant-b")
        with pytest.raises(RevocationBlocked):
            revoke(session, 1, stored=lambda _: False)
        assert line(session) == [(0, None), (1, 0), (2, 1)]
        (affected,) = revoke(session, 1).affected
        assert (affected.job_id, affected.rerun, affected.state) == (None, None, "queued")
        rerun = jobs.get(session, theirs, "tenant-b").rerun
        assert jobs.get(session, rerun or "", "tenant-b").status is JobStatus.QUEUED
        shown = models.versions(session, "clip-a", TENANT)
        assert [v.job_id is None for v in shown] == [True, False, True]


def test_the_operator_may_revoke_whatever_it_costs(database: Database) -> None:
    shelve(database, "clip-a")
    with database.transaction() as session:
        edited(session)
        theirs = edited(session, tenant="tenant-b")
        (affected,) = revoke(session, 1, tenant=None, stored=lambda _: False).affected
        assert (affected.job_id, affected.state) == (theirs, "post_again")


def test_a_run_that_the_revocation_overtook_is_made_on_the_new_line(database: Database) -> None:
    shelve(database, "clip-a")
    with database.transaction() as session:
        edited(session)
        accept(session)
        running = claim(session)
        assert running is not None
    with database.transaction() as session:
        revoke(session, 1)
    # The patch that the worker brings stands on version 1.
    with pytest.raises(StaleParent), database.transaction() as session:
        finish_on(session, running, 1)
    with database.transaction() as session:
        given = jobs.give_back(session, running.id, running.token, now=at(51))
        assert (given.status, given.attempts) == (JobStatus.QUEUED, 0)
        assert run(session) == running.id
        assert line(session) == [(0, None), (2, 0)]


def finish_on(session: Session, job: jobs.Job, parent: int) -> None:
    from registry_examples import new_patch, report

    from api_schemas.jobs import Outcome

    jobs.finish(
        session,
        job.id,
        job.token,
        status=JobStatus.SUCCEEDED,
        outcome=Outcome.PATCHED,
        report=report(),
        patch=new_patch("clip-a", parent),
        now=at(51),
    )


def test_two_requests_and_a_revocation_at_once_lose_nothing(database: Database) -> None:
    """Workers take what comes while version 1 is revoked: every request ends in the line."""
    shelve(database, "clip-a")
    with database.transaction() as session:
        first = edited(session)
        asked = [accept(session, request(), now=at(n)).id for n in range(2)]
    done: list[str] = []
    failures: list[Exception] = []
    begun = threading.Barrier(3)

    def work() -> None:
        begun.wait()
        try:
            while len(done) < len(asked):
                one_run()
        except Exception as failure:
            failures.append(failure)

    def one_run() -> None:
        with database.transaction() as session:
            job = claim(session)
            parent = models.get(session, "clip-a").latest_version
        if job is None:
            return
        threading.Event().wait(0.02)
        try:
            with database.transaction() as session:
                finish_on(session, job, parent)
            done.append(job.id)
        except StaleParent:
            with database.transaction() as session:
                jobs.give_back(session, job.id, job.token, now=START)

    def take_back() -> None:
        begun.wait()
        threading.Event().wait(0.01)
        with database.transaction() as session:
            revoke(session, 1)

    threads = [threading.Thread(target=action) for action in (work, work, take_back)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert failures == []
    with database.transaction() as session:
        while (job := claim(session)) is not None:
            succeed(session, job)
        latest = models.get(session, "clip-a").latest_version
        standing = {
            jobs.get(session, patch.job_id).rerun_of or patch.job_id
            for patch in models.lineage(session, "clip-a", latest)
        }
        parents = [parent for _, parent in line(session)]
        numbers = [number for number, _ in line(session)]
    assert standing == set(asked)
    assert first not in standing
    assert parents == [None, *numbers[:-1]], "a line without a fork"


@pytest.mark.parametrize(
    "change",
    [
        {"revoked_at": START},
        {"revoked_with": 1},
        {"revoked_at": START, "revoked_reason": REASON, "revoked_with": 1},
    ],
)
def test_the_database_itself_keeps_revocations_whole(
    database: Database, change: dict[str, object]
) -> None:
    shelve(database, "clip-a")
    with database.transaction() as session:
        edited(session), edited(session)
    with pytest.raises(IntegrityError), database.transaction() as session:
        session.execute(update(VersionRow).where(VersionRow.number == 2).values(**change))


def test_two_children_of_one_version_are_a_fork(database: Database) -> None:
    shelve(database, "clip-a")
    with database.transaction() as session:
        edited(session), edited(session)
        revoke(session, 2)
        edited(session)
    # Version 2 comes back to life beside version 3, which stands on the same parent.
    alive = {"revoked_at": None, "revoked_reason": None}
    with pytest.raises(IntegrityError), database.transaction() as session:
        session.execute(update(VersionRow).where(VersionRow.number == 2).values(**alive))
    with database.transaction() as session:
        assert session.scalar(select(JobRow.id).limit(1)) is not None
