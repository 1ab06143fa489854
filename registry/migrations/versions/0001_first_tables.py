"""The first tables: models, jobs, outbox, idempotency, patches, versions, audit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Written out, not imported: this script must do tomorrow what it did when it was released.
IDENTIFIER = sa.String(64)
LABEL = sa.String(255)
WORD = sa.String(32)
MOMENT = sa.DateTime(timezone=True)
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
CLAIMED = "status IN ('running', 'canceling')"
FINAL = "status IN ('succeeded', 'rejected', 'failed', 'canceled')"


def upgrade() -> None:
    _models()
    _jobs()
    _jobs_indexes()
    _messages()
    _patches()
    _audit()


def downgrade() -> None:
    for table in ("audit", "versions", "patches", "idempotency", "outbox", "jobs", "models"):
        op.drop_table(table)


def _models() -> None:
    op.create_table(
        "models",
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("record", sa.JSON(), nullable=False),
        sa.Column("digest", LABEL, nullable=False),
        sa.Column("domains", sa.JSON(), nullable=False),
        sa.Column("methods", sa.JSON(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_models"),
    )


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("tenant", LABEL, nullable=False),
        sa.Column("principal", LABEL, nullable=False),
        sa.Column("model_id", IDENTIFIER, nullable=False),
        sa.Column("status", WORD, nullable=False),
        sa.Column("outcome", WORD, nullable=True),
        sa.Column("verdict", WORD, nullable=True),
        sa.Column("phase", LABEL, nullable=False),
        sa.Column("fraction", sa.Double(), nullable=False),
        sa.Column("eta_seconds", sa.Double(), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("started_at", MOMENT, nullable=True),
        sa.Column("finished_at", MOMENT, nullable=True),
        sa.Column("due_at", MOMENT, nullable=True),
        sa.Column("queue_due", MOMENT, nullable=False),
        sa.Column("queue_rank", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("lease_owner", LABEL, nullable=True),
        sa.Column("lease_expires_at", MOMENT, nullable=True),
        sa.Column("message_sent_at", MOMENT, nullable=True),
        sa.Column("resends", sa.Integer(), nullable=False),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("samples", sa.JSON(), nullable=False),
        sa.Column("probe_samples", sa.JSON(), nullable=False),
        sa.Column("report", sa.JSON(), nullable=True),
        sa.CheckConstraint(
            f"({CLAIMED}) = (lease_expires_at IS NOT NULL)",
            name=op.f("ck_jobs_leased_while_claimed"),
        ),
        sa.CheckConstraint(
            f"({FINAL}) = (finished_at IS NOT NULL AND outcome IS NOT NULL)",
            name=op.f("ck_jobs_finished_when_final"),
        ),
        sa.CheckConstraint("fraction >= 0 AND fraction <= 1", name=op.f("ck_jobs_fraction")),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_jobs_model_id"),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )


def _jobs_indexes() -> None:
    for name, columns in (
        (
            "ix_jobs_queue",
            ["model_id", "status", "queue_due", "queue_rank", "created_at", "id"],
        ),
        ("ix_jobs_lease", ["status", "lease_expires_at"]),
        ("ix_jobs_resend", ["status", "message_sent_at"]),
        ("ix_jobs_due", ["status", "due_at"]),
        ("ix_jobs_counts", ["status", "created_at", "outcome"]),
        ("ix_jobs_page", ["tenant", "created_at", "id"]),
        ("ix_jobs_page_status", ["tenant", "status", "created_at", "id"]),
        ("ix_jobs_page_model", ["tenant", "model_id", "created_at", "id"]),
    ):
        op.create_index(name, "jobs", columns)
    op.create_index(
        "uq_jobs_claimed_model_id",
        "jobs",
        ["model_id"],
        unique=True,
        sqlite_where=sa.text(CLAIMED),
        postgresql_where=sa.text(CLAIMED),
    )


def _messages() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("job_id", IDENTIFIER, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_outbox_job_id"),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_job_id", "outbox", ["job_id"])
    op.create_table(
        "idempotency",
        sa.Column("tenant", LABEL, nullable=False),
        sa.Column("principal", LABEL, nullable=False),
        sa.Column("route", LABEL, nullable=False),
        sa.Column("key", LABEL, nullable=False),
        sa.Column("fingerprint", LABEL, nullable=False),
        sa.Column("job_id", IDENTIFIER, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["jobs.id"],
            name="fk_idempotency_job_id",
            deferrable=True,
            initially="DEFERRED",
        ),
        sa.PrimaryKeyConstraint("tenant", "principal", "route", "key", name="pk_idempotency"),
    )
    op.create_index("ix_idempotency_job_id", "idempotency", ["job_id"])


def _patches() -> None:
    op.create_table(
        "patches",
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("job_id", IDENTIFIER, nullable=False),
        sa.Column("model_id", IDENTIFIER, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("manifest", sa.JSON(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_patches_job_id"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_patches_model_id"),
        sa.PrimaryKeyConstraint("id", name="pk_patches"),
        sa.UniqueConstraint("job_id", name="uq_patches_job_id"),
    )
    op.create_table(
        "versions",
        sa.Column("model_id", IDENTIFIER, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("parent", sa.Integer(), nullable=True),
        sa.Column("patch_id", IDENTIFIER, nullable=True),
        sa.Column("job_id", IDENTIFIER, nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.CheckConstraint(
            "(number = 0 AND parent IS NULL AND patch_id IS NULL AND job_id IS NULL)"
            " OR (number > 0 AND parent IS NOT NULL AND parent = number - 1"
            " AND patch_id IS NOT NULL AND job_id IS NOT NULL)",
            name=op.f("ck_versions_line"),
        ),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_versions_model_id"),
        sa.ForeignKeyConstraint(
            ["model_id", "parent"],
            ["versions.model_id", "versions.number"],
            name="fk_versions_model_id_parent",
        ),
        sa.ForeignKeyConstraint(["patch_id"], ["patches.id"], name="fk_versions_patch_id"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_versions_job_id"),
        sa.PrimaryKeyConstraint("model_id", "number", name="pk_versions"),
        sa.UniqueConstraint("patch_id", name="uq_versions_patch_id"),
        sa.UniqueConstraint("job_id", name="uq_versions_job_id"),
    )


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("actor", LABEL, nullable=False),
        sa.Column("action", LABEL, nullable=False),
        sa.Column("object_type", LABEL, nullable=False),
        sa.Column("object_id", LABEL, nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_object_id_id", "audit", ["object_id", "id"])
