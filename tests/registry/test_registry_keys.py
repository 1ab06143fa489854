"""Keys and tenants: shown once, stored as digests, ended as stated; quotas count what they say."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from registry_examples import KEYS, START, accept, at, claim, shelve, succeed
from sqlalchemy import select, text

from api_schemas.access import Scope
from api_schemas.tenants import DEFAULT_TENANT, TenantSettings
from registry import audit, idempotency, jobs, key_texts, keys, quotas, schema, tenants
from registry.database import Database
from registry.errors import KeyEnded, KeyNotFound, TenantExists, TenantNotFound
from registry.tables import KeyRow

ACTOR = "operator"
HOUR = timedelta(hours=1)


def make(database: Database, *, tenant: str = "acme", **changes: object) -> keys.Issued:
    wanted = {"name": "ci", "scopes": [Scope.UNLEARN_READ], "expires_at": None} | changes
    with database.transaction() as session:
        tenants.ensure(session, tenant, actor=ACTOR, now=START)
        return keys.create(session, tenant=tenant, actor=ACTOR, now=START, **wanted)


def opens(database: Database, text: str, seconds: float = 0) -> keys.Holder | None:
    with database.reading() as session:
        return keys.authenticate(session, text, now=at(seconds))


def test_a_key_looks_as_scanners_are_told() -> None:
    texts = {key_texts.new() for _ in range(200)}
    assert len(texts) == 200
    for key_id, key in texts:
        assert re.fullmatch(r"rzr_[0-9A-Za-z]{59}", key)
        assert key_texts.id_in(key) == key_id == key[4:14]


def test_every_slip_of_the_pen_is_noticed_without_a_look_up() -> None:
    _, key = key_texts.new()
    swapped = [
        key[:place] + ("x" if key[place] != "x" else "y") + key[place + 1 :]
        for place in range(len(key))
    ]
    for wrong in (*swapped, key[:-1], key + "0", key.upper(), "", "rzr_", f"{key}\n", f" {key}"):
        assert key_texts.id_in(wrong) is None
    assert key_texts.id_in(key) is not None


def test_the_text_is_nowhere_in_the_database(sqlite: Database) -> None:
    issued = make(sqlite)
    secret = issued.text[14:]
    assert issued.text not in repr(issued)
    with sqlite.transaction() as session:
        dump = "\n".join(session.connection().connection.driver_connection.iterdump())
    assert secret not in dump
    assert issued.key.id in dump  # the control: such a search does find what is there
    assert key_texts.digest(issued.text) in dump


def test_a_key_opens_its_tenant_and_nothing_opens_another(database: Database) -> None:
    one, other = make(database), make(database, tenant="other", scopes=[])
    found = opens(database, one.text)
    assert found is not None
    assert (found.key, found.settings) == (one.key, TenantSettings())
    assert (found.key.tenant, found.key.scopes) == ("acme", {Scope.UNLEARN_READ})
    second = opens(database, other.text)
    assert second is not None
    assert second.key.tenant == "other"
    stranger = key_texts.new()[1]
    assert opens(database, stranger) is None


def test_a_right_id_with_another_secret_opens_nothing(database: Database) -> None:
    issued = make(database)
    body = issued.key.id + "0" * 43
    forged = f"rzr_{body}{key_texts._checksum(body)}"
    assert key_texts.id_in(forged) == issued.key.id
    assert opens(database, forged) is None


def test_keys_end_when_they_expire_or_are_revoked(database: Database) -> None:
    issued = make(database, expires_at=at(100))
    assert opens(database, issued.text, 99.9) is not None
    assert opens(database, issued.text, 100) is None
    with database.transaction() as session:
        revoked = keys.revoke(session, issued.key.id, actor=ACTOR, now=at(5))
        assert keys.revoke(session, issued.key.id, actor=ACTOR, now=at(9)) == revoked
        assert revoked.revoked_at == at(5)
        assert [key.id for key in keys.all_keys(session, "acme")] == [issued.key.id]
        assert keys.all_keys(session, "other") == []
    assert opens(database, issued.text, 6) is None


def test_a_rotated_key_is_the_same_caller_and_the_old_one_ends(database: Database) -> None:
    old = make(database, expires_at=at(86_400))
    with database.transaction() as session:
        new = keys.rotate(session, old.key.id, overlap=HOUR, actor=ACTOR, now=at(1000))
    assert new.text != old.text
    same = replace(old.key, id=new.key.id, created_at=at(1000), expires_at=at(87_400))
    assert new.key == same
    assert new.key.principal == f"key:{old.key.id}"
    for seconds, old_opens in ((1000, True), (4599, True), (4600, False)):
        assert (opens(database, old.text, seconds) is not None) is old_opens
        assert opens(database, new.text, seconds) is not None
    with database.transaction() as session, pytest.raises(KeyEnded):
        keys.rotate(session, old.key.id, overlap=HOUR, actor=ACTOR, now=at(4600))


def test_an_overlap_never_prolongs_a_key(database: Database) -> None:
    old = make(database, expires_at=at(100))
    with database.transaction() as session:
        keys.rotate(session, old.key.id, overlap=HOUR, actor=ACTOR, now=at(50))
        assert keys.get(session, old.key.id).expires_at == at(100)


def test_what_is_not_there_is_told(database: Database) -> None:
    with database.transaction() as session:
        for call in (
            lambda: keys.revoke(session, "none", actor=ACTOR, now=START),
            lambda: keys.rotate(session, "none", overlap=HOUR, actor=ACTOR, now=START),
        ):
            with pytest.raises(KeyNotFound):
                call()
        with pytest.raises(TenantNotFound):
            tenants.change(session, "none", TenantSettings(), actor=ACTOR, now=START)
    with database.transaction() as session, pytest.raises(TenantNotFound):
        keys.create(
            session, tenant="none", name="", scopes=[], expires_at=None, actor=ACTOR, now=START
        )


def test_last_use_is_written_at_most_once_a_minute(database: Database) -> None:
    key = make(database).key
    for seconds, written in ((0, 0), (59, 0), (60, 60), (119.5, 60), (500, 500)):
        with database.transaction() as session:
            before = keys.get(session, key.id)
            keys.touch(session, key.id, now=at(seconds))
            after = keys.get(session, key.id)
        assert after.last_used_at == at(written)
        assert keys.is_stale(before, at(seconds)) is (before != after)


def test_reading_a_key_waits_for_no_writer(sqlite: Database) -> None:
    issued = make(sqlite)
    with sqlite.transaction() as session:
        session.execute(text("UPDATE api_keys SET name = 'changed'"))
        found = opens(sqlite, issued.text)
    assert found is not None
    assert found.key.name == "ci"


def test_the_first_key_is_made_once_whoever_asks_at_once(database: Database) -> None:
    found: list[keys.Issued | None] = []
    barrier = threading.Barrier(4)

    def ask() -> None:
        barrier.wait()
        with database.transaction() as session:
            found.append(keys.first(session, actor=ACTOR, now=START))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (issued,) = [one for one in found if one is not None]
    assert len(found) == 4
    assert (issued.key.tenant, issued.key.scopes) == (DEFAULT_TENANT, set(Scope))
    with database.transaction() as session:
        keys.revoke(session, issued.key.id, actor=ACTOR, now=START)
        assert keys.first(session, actor=ACTOR, now=START) is None


def test_the_log_says_who_did_what_to_which_key_and_no_name(database: Database) -> None:
    old = make(database, name="Quillon's laptop").key
    with database.transaction() as session:
        new = keys.rotate(session, old.id, overlap=HOUR, actor=ACTOR, now=at(1)).key
        keys.revoke(session, old.id, actor="key:boss", now=at(2))
        settings = TenantSettings(approval_required=True)
        tenants.change(session, "acme", settings, actor=ACTOR, now=at(3))
        assert tenants.get(session, "acme").settings == settings
        with pytest.raises(TenantExists):
            tenants.add(session, "acme", TenantSettings(), actor=ACTOR, now=at(4))
        entries = audit.entries(session)
    assert [(entry.action, entry.object_id, entry.actor) for entry in entries] == [
        ("tenant.added", "acme", ACTOR),
        ("key.created", old.id, ACTOR),
        ("key.rotated", new.id, ACTOR),
        ("key.revoked", old.id, "key:boss"),
        ("tenant.changed", "acme", ACTOR),
    ]
    assert "Quillon" not in repr(entries)


def limited(database: Database, **limits: int) -> None:
    with database.transaction() as session:
        tenants.ensure(session, "acme", actor=ACTOR, now=START)
        tenants.change(session, "acme", TenantSettings(**limits), actor=ACTOR, now=START)


def send(database: Database, seconds: float, tenant: str = "acme") -> int | None:
    """Accept a job if the quota allows it; else how long to wait."""
    with database.transaction() as session:
        wait = quotas.wait_seconds(session, tenant, now=at(seconds))
        if wait is None:
            accept(session, tenant=tenant, now=at(seconds))
        return wait


def test_a_tenant_waits_when_its_queue_is_full_and_others_do_not(database: Database) -> None:
    shelve(database, "clip-a")
    limited(database, max_queued_jobs=2)
    assert [send(database, 1) for _ in range(3)] == [None, None, quotas.QUEUE_SECONDS]
    assert [send(database, 1.5, tenant="other") for _ in range(3)] == [None] * 3
    with database.transaction() as session:
        job = claim(session)
        assert job is not None
        assert job.tenant == "acme"
        assert quotas.wait_seconds(session, "acme", now=at(2)) is None
        succeed(session, job)
    assert [send(database, 3) for _ in range(2)] == [None, quotas.QUEUE_SECONDS]


def test_a_day_is_any_twenty_four_hours(database: Database) -> None:
    shelve(database, "clip-a")
    limited(database, max_jobs_per_day=2)
    assert [send(database, seconds) for seconds in (0, 10, 20)] == [None, None, 86_380]
    assert [send(database, seconds) for seconds in (86_399, 86_400, 86_401)] == [1, None, 9]
    limited(database, max_jobs_per_day=0)
    assert send(database, 10**6) == 86_400


def test_a_quota_holds_when_all_come_at_once(database: Database) -> None:
    shelve(database, "clip-a")
    limited(database, max_jobs_per_day=3)
    barrier = threading.Barrier(6)
    waits: list[int | None] = []

    def ask() -> None:
        barrier.wait()
        waits.append(send(database, 0))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert waits.count(None) == 3
    assert len(waits) == 6
    with database.transaction() as session:
        assert len(jobs.page(session, tenant="acme", limit=9)[0]) == 3


def test_tenants_keep_to_their_own_idempotency_keys(database: Database) -> None:
    shelve(database, "clip-a")
    key = idempotency.Key("POST /unlearn", "k", "f")
    with database.transaction() as session:
        ids = [accept(session, tenant=tenant, key=key).id for tenant in ("acme", "other", "acme")]
    assert ids[0] == ids[2] != ids[1]


def test_tenants_that_have_jobs_are_adopted_by_the_migration(sqlite_url: str) -> None:
    database = Database(sqlite_url, KEYS)
    database.migrate()
    shelve(database, "clip-a")
    with database.transaction() as session:
        accept(session, tenant="older")
    schema.downgrade(database._url, "0002")
    database.migrate()
    with database.transaction() as session:
        assert [(one.id, one.settings) for one in tenants.all_tenants(session)] == [
            ("older", TenantSettings())
        ]
        assert session.scalars(select(KeyRow)).all() == []
    database.close()
