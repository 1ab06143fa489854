"""Subject requests on both databases: one job per id, and who is yet to be told of it."""

from __future__ import annotations

import threading
from datetime import datetime

import pytest
from registry_examples import PRINCIPAL, START, TENANT, accept, at, claim, shelve, succeed
from sqlalchemy.orm import Session

from api_schemas.opendsr import Law, RequestStatus, Standing
from registry import jobs, opendsr
from registry.database import Database
from registry.errors import SubjectRequestNotFound, SubjectRequestNotPending

ID = "a7551968-d5d6-44b2-9831-815ac9017798"
DUE = at(86_400)
URLS = ("https://one.example/", "https://two.example/")


def add(
    session: Session,
    name: str = ID,
    *,
    tenant: str = TENANT,
    urls: tuple[str, ...] = URLS,
) -> bool:
    job = accept(session, tenant=tenant, due_at=DUE)
    return opendsr.add(
        session,
        job,
        subject_request_id=name,
        body_sha256="d" * 64,
        regulation=Law.GDPR,
        callback_urls=urls,
        version=2,
    )


@pytest.fixture
def shelved(database: Database) -> Database:
    shelve(database, "clip-a")
    return database


def test_an_id_stands_for_one_job_of_its_tenant(shelved: Database) -> None:
    with shelved.transaction() as session:
        assert add(session)
        assert add(session, tenant="tenant-b")
        first = opendsr.get(session, TENANT, ID)
        assert not add(session, urls=("https://three.example/",))
        assert opendsr.get(session, TENANT, ID) == first
        assert opendsr.get(session, "tenant-b", ID).job_id != first.job_id
        assert (first.received_at, first.expected_at) == (START, DUE)
        assert opendsr.find(session, "tenant-c", ID) is None
        with pytest.raises(SubjectRequestNotFound):
            opendsr.get(session, "tenant-c", ID)


def test_of_two_at_one_moment_one_wins(shelved: Database) -> None:
    won: list[bool] = []
    barrier = threading.Barrier(2)

    def send() -> None:
        barrier.wait()
        with shelved.transaction() as session:
            won.append(add(session))

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False, True]


def test_notices_follow_the_job_and_end_with_it(shelved: Database) -> None:
    def told(moment: datetime) -> list[tuple[str, Standing]]:
        with shelved.transaction() as session:
            notices = opendsr.claim_notices(session, limit=10, now=moment)
            for notice in notices:
                opendsr.told(session, notice, moment)
        return [(notice.url, notice.case.standing) for notice in notices]

    with shelved.transaction() as session:
        add(session)
    assert told(at(1)) == []
    with shelved.transaction() as session:
        job = claim(session)
        assert job is not None
    assert told(at(2)) == [(url, Standing.IN_PROGRESS) for url in URLS]
    assert told(at(3)) == []
    with shelved.transaction() as session:
        succeed(session, job, at(4))
    assert told(at(5)) == [(url, Standing.COMPLETED) for url in URLS]
    assert told(at(1e6)) == []


def test_what_one_front_has_claimed_no_other_sees_until_the_claim_is_over(
    shelved: Database,
) -> None:
    with shelved.transaction() as session:
        add(session)
        claim(session)
    with shelved.transaction() as session:
        (first,) = opendsr.claim_notices(session, limit=1, now=at(1))
        assert first.url == URLS[0]
        assert "example" not in repr(first)
        (second,) = opendsr.claim_notices(session, limit=2, now=at(1))
        assert second.url == URLS[1]
        assert opendsr.claim_notices(session, limit=2, now=at(1)) == []
        later = at(2 + opendsr.CLAIM_SECONDS)
        assert len(opendsr.claim_notices(session, limit=2, now=later)) == 2


@pytest.mark.postgres
@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_two_fronts_do_not_wait_for_each_other(shelved: Database) -> None:
    """On SQLite they do: there transactions follow one another."""
    with shelved.transaction() as session:
        add(session)
        claim(session)
    with shelved.transaction() as one, shelved.transaction() as other:
        assert len(opendsr.claim_notices(one, limit=1, now=at(1))) == 1
        assert len(opendsr.claim_notices(other, limit=2, now=at(1))) == 1


def test_only_what_nobody_has_begun_is_cancelled(shelved: Database) -> None:
    with shelved.transaction() as session:
        add(session)
        found = opendsr.cancel(session, TENANT, ID, principal=PRINCIPAL, now=at(1))
        assert found.standing is Standing.CANCELLED
        with pytest.raises(SubjectRequestNotPending):
            opendsr.cancel(session, TENANT, ID, principal=PRINCIPAL, now=at(1))
        with pytest.raises(SubjectRequestNotFound):
            opendsr.cancel(session, "tenant-b", ID, principal=PRINCIPAL, now=at(1))
        second = ID.replace("a", "b", 1)
        add(session, second)
        job = claim(session)
        assert job is not None
        with pytest.raises(SubjectRequestNotPending):
            opendsr.cancel(session, TENANT, second, principal=PRINCIPAL, now=at(1))
        assert jobs.get(session, job.id).status.value == "running"


def test_every_standing_has_one_of_the_four_words() -> None:
    assert {standing.status for standing in Standing} == set(RequestStatus)
    assert Standing.STOPPED.status is RequestStatus.IN_PROGRESS
