"""One key, one job."""

from __future__ import annotations

import dataclasses

import pytest
from registry_examples import PRINCIPAL, TENANT, accept, at, claim, request, shelve, succeed

from registry import audit, idempotency, jobs, outbox
from registry.database import Database
from registry.errors import IdempotencyConflict

KEY = idempotency.Key(route="POST /unlearn", key="k1", fingerprint="f1")


@pytest.fixture(autouse=True)
def _shelf(database: Database) -> None:
    shelve(database, "clip-a", "clip-b")


def test_the_same_request_again_is_the_same_job_as_it_stands_now(database: Database) -> None:
    with database.transaction() as session:
        first = accept(session, key=KEY)
    with database.transaction() as session:
        job = claim(session)
        assert job is not None
        done = succeed(session, job)
    with database.transaction() as session:
        lines = audit.entries(session)
        assert accept(session, key=KEY, now=at(60)) == done
        assert done.id == first.id
        assert audit.entries(session) == lines
        assert len(outbox.pending(session, 10)) == 1


def test_another_request_under_the_same_key_is_refused(database: Database) -> None:
    other = dataclasses.replace(KEY, fingerprint="f2")
    with database.transaction() as session:
        job = accept(session, key=KEY)
        with pytest.raises(IdempotencyConflict) as caught:
            accept(session, request("clip-b"), key=other)
        with pytest.raises(IdempotencyConflict):
            idempotency.lookup(session, tenant=TENANT, principal=PRINCIPAL, key=other)
        assert caught.value.job_id == job.id
        assert jobs.page(session, tenant=TENANT, limit=9) == ([job], None)


def test_lookup_finds_what_accept_kept(database: Database) -> None:
    def lookup(**changes: str) -> str | None:
        scope = {"tenant": TENANT, "principal": PRINCIPAL} | changes
        return idempotency.lookup(session, key=KEY, **scope)

    with database.transaction() as session:
        assert lookup() is None
        job = accept(session, key=KEY)
        assert lookup() == job.id
        assert lookup(tenant="tenant-b") is None
        assert lookup(principal="key:other") is None


@pytest.mark.parametrize("change", [{"key": "k2"}, {"route": "POST /models"}])
def test_another_key_or_route_is_another_job(database: Database, change: dict[str, str]) -> None:
    with database.transaction() as session:
        first = accept(session, key=KEY)
        assert accept(session, key=dataclasses.replace(KEY, **change)).id != first.id
        assert accept(session, key=KEY, tenant="tenant-b").id != first.id


def test_without_a_key_every_request_is_a_job(database: Database) -> None:
    with database.transaction() as session:
        assert accept(session).id != accept(session).id


def test_a_request_that_failed_leaves_its_key_free(database: Database) -> None:
    def fail() -> None:
        with database.transaction() as session:
            accept(session, key=KEY)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with database.transaction() as session:
        assert idempotency.lookup(session, tenant=TENANT, principal=PRINCIPAL, key=KEY) is None
        accept(session, key=KEY)
