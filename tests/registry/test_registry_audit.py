"""The audit log: in order, and only what was committed."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import uuid
from pathlib import Path

import pytest
from registry_examples import at
from sqlalchemy import event, func, select, text
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.orm import Session

from evidence import lines, merkle
from registry import audit
from registry.database import Database
from registry.errors import LineNotFound, TreeSizeInvalid
from registry.tables import AuditNodeRow

DOCUMENT = Path(__file__).parents[2] / "docs" / "evidence.md"


def append(
    session: Session, number: int, object_id: str = "thing", *, tenant: str | None = "tenant-a"
) -> None:
    audit.append(
        session,
        tenant=tenant,
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
            tenant=None,
            actor="a",
            action="b",
            object_type="c",
            object_id="d",
            details={"value": float("nan")},
            now=at(0),
        )


def fill(database: Database, count: int) -> list[bytes]:
    """So many lines, one transaction each; their leaves."""
    for number in range(count):
        with database.transaction() as session:
            append(session, number, tenant=None if number % 3 == 0 else f"tenant-{number % 3}")
    with database.transaction() as session:
        return [bytes.fromhex(line.leaf_hash) for line in audit.entries(session, limit=count)]


def test_every_size_has_the_tree_head_of_its_lines(database: Database) -> None:
    leaves = fill(database, 21)
    with database.transaction() as session:
        assert audit.size(session) == 21
        for size in range(22):
            assert audit.root(session, size) == slow_root(leaves[:size])
        with pytest.raises(TreeSizeInvalid):
            audit.root(session, 22)


def slow_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, as it is written there."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    left, right = slow_root(leaves[:half]), slow_root(leaves[half:])
    return hashlib.sha256(b"\x01" + left + right).digest()


def test_proofs_hold_for_every_line_and_size(database: Database) -> None:
    leaves = fill(database, 11)
    with database.transaction() as session:
        for size in range(1, 12):
            root = audit.root(session, size)
            for index in range(size):
                tenant = f"tenant-{index % 3}"
                if index % 3 == 0:  # the operator's: nobody asks for it
                    with pytest.raises(LineNotFound):
                        audit.inclusion(session, index, size, tenant=tenant)
                    continue
                proof = audit.inclusion(session, index, size, tenant=tenant)
                merkle.check_inclusion(leaves[index], index, size, proof, root)
            for first in range(size + 1):
                proof = audit.consistency(session, first, size)
                merkle.check_consistency(first, size, proof, audit.root(session, first), root)


def test_a_proof_is_of_the_tenants_own_line_and_of_a_tree_that_was(database: Database) -> None:
    fill(database, 5)
    with database.transaction() as session:
        with pytest.raises(LineNotFound):
            audit.inclusion(session, 1, 5, tenant="tenant-2")
        for index, size in ((1, 6), (4, 4), (1, -1)):
            with pytest.raises(TreeSizeInvalid):
                audit.inclusion(session, index, size, tenant="tenant-1")
        for first, second in ((3, 2), (0, 6), (-1, 2)):
            with pytest.raises(TreeSizeInvalid):
                audit.consistency(session, first, second)


def test_a_line_hashes_as_the_format_says(database: Database) -> None:
    fill(database, 1)
    with database.transaction() as session:
        (entry,) = audit.entries(session)
    written = (
        '{"action":"test.line","actor":"key:officer","at":"2026-03-01T12:00:00.000000Z",'
        '"details":{"nested":{"é":[1.5,null]},"number":0},"index":0,"object_id":"thing",'
        '"object_type":"test","tenant":null}'
    )
    assert entry.leaf_hash == hashlib.sha256(b"\x00" + written.encode()).hexdigest()
    assert lines.leaf(entry.line()).hex() == entry.leaf_hash
    changed = dataclasses.replace(entry, actor="key:other").line()
    assert lines.leaf(changed).hex() != changed.leaf_hash == entry.leaf_hash


def test_a_tenant_reads_its_own_lines_page_by_page(database: Database) -> None:
    fill(database, 12)
    with database.transaction() as session:
        first, after = audit.page(session, tenant="tenant-1", after=None, limit=3)
        assert [line.index for line in first] == [1, 4, 7]
        assert after == 7
        rest, end = audit.page(session, tenant="tenant-1", after=after, limit=3)
        assert [line.index for line in rest] == [10]
        assert end is None
        assert audit.page(session, tenant="tenant-0", after=None, limit=3) == ([], None)


TAMPERING = {
    "sqlite": ("INSERT OR REPLACE INTO {0} SELECT * FROM {0}",),
    "postgresql": ("TRUNCATE {}", "SET session_replication_role = replica; DELETE FROM {}"),
}


@pytest.mark.parametrize(("table", "column"), [("audit", "actor"), ("audit_nodes", "hash")])
def test_the_database_keeps_every_line(database: Database, table: str, column: str) -> None:
    leaves = fill(database, 2)
    with database.transaction() as session:
        own = TAMPERING[session.get_bind().dialect.name]

    def tamper(statement: str) -> None:
        with database.transaction() as session:
            session.execute(text(statement.format(table, column, column)))

    for statement in ("UPDATE {} SET {} = {}", "DELETE FROM {}", *own):
        with pytest.raises(IntegrityError, match="append-only"):
            tamper(statement)
    with database.transaction() as session:
        assert audit.root(session, 2) == slow_root(leaves)
        append(session, 2)  # the control: a line can still be added
        assert audit.size(session) == 3


@pytest.mark.postgres
def test_the_documented_role_can_add_lines_and_nothing_else(postgres_url: str) -> None:
    """The lines of docs/evidence.md, as they stand there."""
    database = Database(postgres_url)
    database.migrate()
    role = f"razor_test_{uuid.uuid4().hex}"
    granted = re.findall(r"^    ((?:GRANT|REVOKE) .*;)$", DOCUMENT.read_text(), re.MULTILINE)
    assert len(granted) == 3
    with database.transaction() as session:
        schema = session.scalar(text("SELECT current_schema()"))
        session.execute(text(f"CREATE ROLE {role}; GRANT USAGE ON SCHEMA {schema} TO {role}"))
        for statement in granted:
            session.execute(text(statement.replace("razor_app", role)))
    try:
        with database.transaction() as session:
            session.execute(text(f"SET LOCAL ROLE {role}"))
            append(session, 0)
            append(session, 1)
            assert audit.size(session) == 2

        def tamper(statement: str) -> None:
            with database.transaction() as session:
                session.execute(text(f"SET LOCAL ROLE {role}"))
                session.execute(text(statement))

        for statement in (
            "DELETE FROM audit",
            "UPDATE audit_nodes SET hash = hash",
            "ALTER TABLE audit DISABLE TRIGGER USER",
            "DROP TRIGGER audit_append_only ON audit",
        ):
            with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
                tamper(statement)
    finally:
        with database.transaction() as session:
            session.execute(text(f"DROP OWNED BY {role}; DROP ROLE {role}"))
        database.close()


def test_ids_with_gaps_are_leaves_without(database: Database) -> None:
    fill(database, 2)
    with database.transaction() as session:
        append(session, 2)
        session.rollback()
    with database.transaction() as session:
        append(session, 3)
    with database.transaction() as session:
        found = audit.entries(session)
    assert [line.index for line in found] == [0, 1, 2]


def test_a_line_costs_the_same_however_long_the_log(sqlite: Database) -> None:
    """The nodes that a line writes are those it completes: one in the mean."""
    fill(sqlite, 64)
    with sqlite.transaction() as session:
        assert session.scalar(select(func.count()).select_from(AuditNodeRow)) == 63
        session.connection().exec_driver_sql("SELECT 1")
        asked: list[str] = []
        event.listen(
            session.connection(), "before_cursor_execute", lambda *a: asked.append(str(a[2]))
        )
        append(session, 64)
        audit.root(session, 65)
    # One for the size, one for the line; the head: its size, one subtree of 64, one leaf.
    assert len(asked) == 5
