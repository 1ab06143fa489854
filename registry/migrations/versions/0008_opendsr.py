"""Requests that came through the OpenDSR facade, and the addresses that are told of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# Written out, not imported: this script must do tomorrow what it did when it was released.
IDENTIFIER = sa.String(64)
LABEL = sa.String(255)
WORD = sa.String(32)
MOMENT = sa.DateTime(timezone=True)
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "subject_requests",
        sa.Column("tenant", LABEL, nullable=False),
        sa.Column("subject_request_id", IDENTIFIER, nullable=False),
        sa.Column("job_id", IDENTIFIER, nullable=False),
        sa.Column("body_sha256", sa.String(64), nullable=False),
        sa.Column("regulation", WORD, nullable=False),
        sa.Column("received_at", MOMENT, nullable=False),
        sa.Column("expected_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_subject_requests_job_id"),
        sa.PrimaryKeyConstraint("tenant", "subject_request_id", name="pk_subject_requests"),
        sa.UniqueConstraint("job_id", name="uq_subject_requests_job_id"),
    )
    op.create_table(
        "subject_request_callbacks",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("tenant", LABEL, nullable=False),
        sa.Column("subject_request_id", IDENTIFIER, nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("told_standing", WORD, nullable=False),
        sa.Column("told_due_at", MOMENT, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "subject_request_id"],
            ["subject_requests.tenant", "subject_requests.subject_request_id"],
            name="fk_subject_request_callbacks_tenant",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_subject_request_callbacks"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_subject_request_callbacks_next_attempt_at",
        "subject_request_callbacks",
        ["next_attempt_at"],
    )


def downgrade() -> None:
    op.drop_table("subject_request_callbacks")
    op.drop_table("subject_requests")
