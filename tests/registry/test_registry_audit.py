"""The audit log: in order, and only what was committed."""

from __future__ import annotations

import pytest
from registry_examples import at
from sqlalchemy.orm import Session

from registry import audit
from registry.database import Database


def append(session: Session, number: int, object_id: str = "thing") -> None:
    audit.append(
        session,
        actor="key:officer",
        action="test.line",
        object_type="test",
        object_id=object_id,
        details={"number": number, "nested": {"é": [1.5, None]}},
        now=at(number),
    )


def test_lines_come_back_as_written_and_in_order(database: Database) -> None:
    with database.transaction() as session:
        for number in range(5):
            append(session, number)
    with database.transaction() as session:
        lines = audit.entries(session)
    assert [line.details["number"] for line in lines] == list(range(5))
    assert [line.at for line in lines] == [at(number) for number in range(5)]
    assert lines[0].details["nested"] == {"é": [1.5, None]}
    assert (lines[0].actor, lines[0].action) == ("key:officer", "test.line")
    assert (lines[0].object_type, lines[0].object_id) == ("test", "thing")


def test_reading_on_misses_and_repeats_nothing(database: Database) -> None:
    with database.transaction() as session:
        for number in range(7):
            append(session, number)
        seen: list[audit.Entry] = []
        while new := audit.entries(session, after=seen[-1].id if seen else 0, limit=3):
            seen.extend(new)
        assert seen == audit.entries(session)


def test_one_objects_lines_are_its_own(database: Database) -> None:
    with database.transaction() as session:
        for number in range(6):
            append(session, number, f"thing-{number % 2}")
        odd = audit.entries(session, object_id="thing-1")
        assert [line.details["number"] for line in odd] == [1, 3, 5]
        assert audit.entries(session, after=odd[0].id, object_id="thing-1", limit=1) == odd[1:2]


def test_what_was_rolled_back_was_never_said(database: Database) -> None:
    def fail() -> None:
        with database.transaction() as session:
            append(session, 0)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with database.transaction() as session:
        assert audit.entries(session) == []


def test_what_is_no_json_is_refused(database: Database) -> None:
    with database.transaction() as session, pytest.raises(Exception, match="JSON compliant"):
        audit.append(
            session,
            actor="a",
            action="b",
            object_type="c",
            object_id="d",
            details={"value": float("nan")},
            now=at(0),
        )
