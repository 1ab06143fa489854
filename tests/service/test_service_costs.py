"""What a request costs the database, in statements: seconds say how crowded a machine is."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient
from front_world import World, as_files, bearer, fields, pictures, world
from sqlalchemy import event

from api_schemas.access import Scope
from registry import keys
from service import guard
from service.parts import now

#: Of one request, but for the look-up of its key and its line in the audit log.
INTAKE_STATEMENTS = 13


@pytest.fixture
def still(tmp_path: Any) -> Iterator[World]:
    """A front whose background asks nothing meanwhile."""
    rest = dict.fromkeys(
        ("relay_seconds", "recovery_seconds", "webhook_seconds", "opendsr_seconds"), 600.0
    )
    with world(tmp_path, **rest) as made:
        time.sleep(0.3)  # the first round of each
        yield made


@contextmanager
def asked(front: World) -> Iterator[list[str]]:
    """Every statement that the front's database gets in the block."""
    found: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        found.append(statement)

    engine = front.parts.database._engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", note)


def of_tables(statements: list[str]) -> list[str]:
    return [line for line in statements if not line.startswith("BEGIN")]


def http(front: World) -> TestClient:
    assert front.http is not None
    return front.http


def test_a_status_poll_is_one_statement_and_takes_no_write_lock(still: World) -> None:
    job_id = still.accept()
    http(still).get(f"/jobs/{job_id}")
    with asked(still) as statements:
        assert http(still).get(f"/jobs/{job_id}").status_code == 200
    assert len(of_tables(statements)) == 1, statements
    assert "BEGIN IMMEDIATE" not in statements


def test_a_key_is_looked_up_once_a_second(still: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "RECENT_SECONDS", 600.0)
    http(still).get("/models")
    with asked(still) as statements:
        for _ in range(5):
            http(still).get("/models")
    assert not [line for line in statements if "api_keys" in line]
    monkeypatch.setattr(guard, "RECENT_SECONDS", 0.0)
    with asked(still) as statements:
        for _ in range(5):
            http(still).get("/models")
    assert len([line for line in statements if "api_keys" in line]) >= 5, "the control"


def test_a_revoked_key_is_refused_within_that_second(still: World) -> None:
    text = still.new_key(*Scope)
    headers = bearer(text)
    assert http(still).get("/models", headers=headers).status_code == 200
    with still.parts.database.transaction() as session:
        keys.revoke(session, text[4:14], actor="operator", now=now())
    time.sleep(guard.RECENT_SECONDS + 0.1)
    assert http(still).get("/models", headers=headers).status_code == 401


def test_an_intake_costs_the_same_statements_for_any_number_of_pictures(
    still: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "RECENT_SECONDS", 600.0)
    http(still).get("/models")
    request = ("request", (None, json.dumps(fields()), "application/json"))
    counts = []
    for count in (3, 8):
        with asked(still) as statements:
            answer = http(still).post("/unlearn", files=[request, *as_files(pictures(count))])
        assert answer.status_code == 202
        # The log's tree grows by as many nodes as the line's place completes.
        own = [line for line in of_tables(statements) if "audit" not in line]
        counts.append(len(own))
    assert counts == [INTAKE_STATEMENTS] * 2


@pytest.mark.parametrize("path", ["/jobs", "/models", "/audit", "/models/reference-clip"])
def test_reads_take_no_write_lock(still: World, path: str) -> None:
    http(still).get(path)
    with asked(still) as statements:
        assert http(still).get(path).status_code == 200
    assert "BEGIN IMMEDIATE" not in statements
