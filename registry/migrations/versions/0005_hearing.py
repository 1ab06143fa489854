"""Each job has a history; tenants have webhooks, and messages to them.

Jobs that are there already get the history that their rows still tell.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Written out, not imported: this script must do tomorrow what it did when it was released.
IDENTIFIER = sa.String(64)
LABEL = sa.String(255)
WORD = sa.String(32)
MOMENT = sa.DateTime(timezone=True)
BATCH = 200

JOBS = sa.table(
    "jobs",
    sa.column("id", IDENTIFIER),
    sa.column("tenant", LABEL),
    sa.column("status", WORD),
    sa.column("outcome", WORD),
    sa.column("phase", LABEL),
    sa.column("created_at", MOMENT),
    sa.column("started_at", MOMENT),
    sa.column("finished_at", MOMENT),
    sa.column("attempts", sa.Integer()),
    sa.column("error", sa.JSON()),
)
PATCHES = sa.table("patches", sa.column("id", IDENTIFIER), sa.column("job_id", IDENTIFIER))
VERSIONS = sa.table("versions", sa.column("number", sa.Integer()), sa.column("job_id", IDENTIFIER))
EVENTS = sa.table(
    "job_events",
    sa.column("job_id", IDENTIFIER),
    sa.column("number", sa.Integer()),
    sa.column("tenant", LABEL),
    sa.column("type", WORD),
    sa.column("at", MOMENT),
    sa.column("data", sa.JSON()),
)


def upgrade() -> None:
    _events()
    _webhooks()
    _deliveries()
    _attempts()
    _write_histories()


def downgrade() -> None:
    for table in ("webhook_attempts", "webhook_deliveries", "webhooks", "job_events"):
        op.drop_table(table)


def _events() -> None:
    op.create_table(
        "job_events",
        sa.Column("job_id", IDENTIFIER, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("tenant", LABEL, nullable=False),
        sa.Column("type", WORD, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.CheckConstraint("number > 0", name="ck_job_events_number"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_events_job_id"),
        sa.PrimaryKeyConstraint("job_id", "number", name="pk_job_events"),
    )


def _webhooks() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("tenant", LABEL, nullable=False),
        sa.Column("url", sa.String(2000), nullable=False),
        sa.Column("events", sa.JSON(), nullable=True),
        sa.Column("disabled_reason", WORD, nullable=True),
        sa.Column("secrets", sa.JSON(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
    )
    op.create_index("ix_webhooks_tenant", "webhooks", ["tenant", "created_at", "id"])


def _deliveries() -> None:
    table = "webhook_deliveries"
    op.create_table(
        table,
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("webhook_id", IDENTIFIER, nullable=False),
        sa.Column("job_id", IDENTIFIER, nullable=True),
        sa.Column("event_number", sa.Integer(), nullable=True),
        sa.Column("status", WORD, nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("next_attempt_at", MOMENT, nullable=True),
        sa.CheckConstraint(
            "(job_id IS NULL) = (event_number IS NULL)", name=f"ck_{table}_event_or_test"
        ),
        sa.CheckConstraint(
            "status = 'pending' OR next_attempt_at IS NULL", name=f"ck_{table}_due_while_pending"
        ),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["webhooks.id"], name=f"fk_{table}_webhook_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["job_id", "event_number"],
            ["job_events.job_id", "job_events.number"],
            name=f"fk_{table}_job_id_event_number",
        ),
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
    )
    op.create_index(f"ix_{table}_due", table, ["status", "next_attempt_at"])
    op.create_index(f"ix_{table}_turn", table, ["webhook_id", "status", "next_attempt_at"])
    op.create_index(f"ix_{table}_page", table, ["webhook_id", "created_at", "id"])


def _attempts() -> None:
    op.create_table(
        "webhook_attempts",
        sa.Column("delivery_id", IDENTIFIER, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("failure", WORD, nullable=True),
        sa.CheckConstraint(
            "(status_code IS NULL) = (failure IS NOT NULL)",
            name="ck_webhook_attempts_answer_or_failure",
        ),
        sa.ForeignKeyConstraint(
            ["delivery_id"],
            ["webhook_deliveries.id"],
            name="fk_webhook_attempts_delivery_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("delivery_id", "number", name="pk_webhook_attempts"),
    )


def _write_histories() -> None:
    connection = op.get_bind()
    wanted = (
        sa.select(JOBS, PATCHES.c.id.label("patch_id"), VERSIONS.c.number.label("model_version"))
        .outerjoin(PATCHES, PATCHES.c.job_id == JOBS.c.id)
        .outerjoin(VERSIONS, VERSIONS.c.job_id == JOBS.c.id)
        .order_by(JOBS.c.id)
        .limit(BATCH)
    )
    last = ""
    while True:
        rows = connection.execute(wanted.where(JOBS.c.id > last)).all()
        for job in rows:
            connection.execute(EVENTS.insert(), _history(job))
            last = job.id
        if len(rows) < BATCH:
            return


def _history(job: Any) -> list[dict[str, Any]]:
    """Accepted, running, and where it stands now; what came in between is not known any more."""
    known: list[tuple[str, datetime, dict[str, Any]]] = [
        ("accepted", job.created_at, {"status": "queued", "phase": "queued", "attempt": 0})
    ]
    if job.started_at is not None and job.status != "queued":
        first = {"status": "running", "phase": "starting", "attempt": max(1, job.attempts)}
        known.append(("running", job.started_at, first))
    if job.status not in {"queued", "running"}:
        now = {
            "status": job.status,
            "outcome": job.outcome,
            "phase": job.phase,
            "attempt": job.attempts,
            "error_code": job.error["code"] if job.error else None,
            "patch_id": job.patch_id,
            "model_version": job.model_version,
        }
        known.append((job.status, job.finished_at or job.started_at, now))
    blank = dict.fromkeys(("outcome", "error_code", "patch_id", "model_version"))
    return [
        {
            "job_id": job.id,
            "number": number,
            "tenant": job.tenant,
            "type": f"job.{word}",
            "at": at,
            "data": blank | data,
        }
        for number, (word, at, data) in enumerate(known, start=1)
    ]
