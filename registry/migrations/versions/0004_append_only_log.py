"""The audit log becomes a tree that only grows; evidence of a job is remembered.

Lines that are there already get their leaves in the order of their ids. Going back drops the tree:
a checkpoint that an auditor holds is consistent again only if the same lines are hashed anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Written out, not imported: this script must do tomorrow what it did when it was released.
LABEL = sa.String(255)
SHA256 = sa.String(64)
BATCH = 500
APPEND_ONLY = ("audit", "audit_nodes")

AUDIT = sa.table(
    "audit",
    *(
        sa.column(name, kind)
        for name, kind in (
            ("id", sa.BigInteger()),
            ("at", sa.DateTime(timezone=True)),
            ("actor", LABEL),
            ("action", LABEL),
            ("object_type", LABEL),
            ("object_id", LABEL),
            ("details", sa.JSON()),
            ("tenant", LABEL),
            ("leaf_index", sa.BigInteger()),
            ("leaf_hash", SHA256),
        )
    ),
)
NODES = sa.table(
    "audit_nodes",
    sa.column("level", sa.Integer()),
    sa.column("place", sa.BigInteger()),
    sa.column("hash", SHA256),
)
JOBS = sa.table("jobs", sa.column("id", sa.String(64)), sa.column("tenant", LABEL))


def upgrade() -> None:
    op.add_column("audit", sa.Column("tenant", LABEL, nullable=True))
    op.add_column("audit", sa.Column("leaf_index", sa.BigInteger(), nullable=True))
    op.add_column("audit", sa.Column("leaf_hash", SHA256, nullable=True))
    op.create_table(
        "audit_nodes",
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("place", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", SHA256, nullable=False),
        sa.PrimaryKeyConstraint("level", "place", name="pk_audit_nodes"),
    )
    op.create_table(
        "evidence",
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("sha256", SHA256, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_evidence_job_id"),
        sa.PrimaryKeyConstraint("job_id", name="pk_evidence"),
    )
    _grow_the_tree()
    with op.batch_alter_table("audit", table_kwargs={"sqlite_autoincrement": True}) as audit:
        audit.alter_column("leaf_index", existing_type=sa.BigInteger(), nullable=False)
        audit.alter_column("leaf_hash", existing_type=SHA256, nullable=False)
        audit.create_unique_constraint("uq_audit_leaf_index", ["leaf_index"])
    op.create_index("ix_audit_tenant_leaf_index", "audit", ["tenant", "leaf_index"])
    if op.get_bind().dialect.name == "postgresql":
        _forbid_on_postgresql()
    else:
        _forbid_on_sqlite()


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table in APPEND_ONLY:
            op.execute(f"DROP TRIGGER {table}_append_only ON {table}")
        op.execute("DROP FUNCTION audit_append_only()")
    else:
        for table in APPEND_ONLY:
            for event in ("update", "delete", "replace"):
                op.execute(f"DROP TRIGGER {table}_no_{event}")
    op.drop_table("evidence")
    op.drop_table("audit_nodes")
    op.drop_index("ix_audit_tenant_leaf_index", table_name="audit")
    with op.batch_alter_table("audit", table_kwargs={"sqlite_autoincrement": True}) as audit:
        audit.drop_constraint("uq_audit_leaf_index", type_="unique")
        for column in ("tenant", "leaf_index", "leaf_hash"):
            audit.drop_column(column)


def _forbid_on_postgresql() -> None:
    op.execute(
        """
        CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'restrict_violation';
        END $$
        """
    )
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()"
        )
        # Also in a session that calls itself a replica.
        op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_append_only")


def _forbid_on_sqlite() -> None:
    same = {
        "audit": "id = NEW.id OR leaf_index = NEW.leaf_index",
        "audit_nodes": "level = NEW.level AND place = NEW.place",
    }
    refuse = "SELECT RAISE(ABORT, 'the audit log is append-only');"
    for table in APPEND_ONLY:
        for event in ("update", "delete"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{event} BEFORE {event.upper()} ON {table}"
                f" BEGIN {refuse} END"
            )
        # INSERT OR REPLACE deletes a row without asking the triggers for deletions.
        op.execute(
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table}"
            f" WHEN EXISTS (SELECT 1 FROM {table} WHERE {same[table]}) BEGIN {refuse} END"
        )


def _grow_the_tree() -> None:
    """Every line gets its leaf; the stack holds the roots of the complete subtrees so far."""
    connection = op.get_bind()
    stack: list[tuple[int, int, bytes]] = []  # level, place, hash
    for index, row in enumerate(_rows(connection)):
        leaf = hashlib.sha256(b"\x00" + _encoded(index, row)).digest()
        connection.execute(
            AUDIT.update()
            .where(AUDIT.c.id == row.id)
            .values(tenant=row.owner, leaf_index=index, leaf_hash=leaf.hex())
        )
        stack.append((0, index, leaf))
        while len(stack) > 1 and stack[-1][0] == stack[-2][0]:
            (level, place, left), (_, _, right) = stack[-2:]
            value = hashlib.sha256(b"\x01" + left + right).digest()
            stack[-2:] = [(level + 1, place >> 1, value)]
            connection.execute(
                NODES.insert().values(level=level + 1, place=place >> 1, hash=value.hex())
            )


def _rows(connection: sa.Connection) -> Iterator[Any]:
    """The lines with their job's tenant, in order, a batch at a time."""
    last = 0
    while True:
        query = (
            sa.select(AUDIT, JOBS.c.tenant.label("owner"))
            .outerjoin(JOBS, sa.and_(AUDIT.c.object_type == "job", JOBS.c.id == AUDIT.c.object_id))
            .where(AUDIT.c.id > last)
            .order_by(AUDIT.c.id)
            .limit(BATCH)
        )
        rows = connection.execute(query).all()
        yield from rows
        if len(rows) < BATCH:
            return
        last = rows[-1].id


def _encoded(index: int, row: Any) -> bytes:
    at: datetime = row.at if row.at.tzinfo else row.at.replace(tzinfo=UTC)
    line = {
        "index": index,
        "at": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "tenant": row.owner,
        "actor": row.actor,
        "action": row.action,
        "object_type": row.object_type,
        "object_id": row.object_id,
        "details": row.details,
    }
    text = json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()
