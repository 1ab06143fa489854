"""Tenants and API keys. Every tenant that has jobs gets its row, with the default settings."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Written out, not imported: this script must do tomorrow what it did when it was released.
IDENTIFIER = sa.String(64)
LABEL = sa.String(255)
MOMENT = sa.DateTime(timezone=True)
SETTINGS = {
    "approval_required": False,
    "retention_days": None,
    "max_queued_jobs": None,
    "max_jobs_per_day": None,
    "requests_per_minute": None,
}


def upgrade() -> None:
    tenants = op.create_table(
        "tenants",
        sa.Column("id", LABEL, nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tenants"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("principal", LABEL, nullable=False),
        sa.Column("tenant", LABEL, nullable=False),
        sa.Column("name", LABEL, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=True),
        sa.Column("last_used_at", MOMENT, nullable=True),
        sa.Column("revoked_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name="fk_api_keys_tenant"),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
    )
    op.create_index("ix_api_keys_tenant", "api_keys", ["tenant"])
    _adopt(tenants)


def _adopt(tenants: sa.Table) -> None:
    connection = op.get_bind()
    known = connection.execute(sa.text("SELECT DISTINCT tenant FROM jobs ORDER BY tenant"))
    now = datetime.now(UTC)
    if connection.dialect.name == "sqlite":
        now = now.replace(tzinfo=None)
    rows = [{"id": row.tenant, "settings": SETTINGS, "created_at": now} for row in known]
    if rows:
        op.bulk_insert(tenants, rows)


def downgrade() -> None:
    """Keys and tenants are gone; what belongs to the tenants stays."""
    for table in ("api_keys", "tenants"):
        op.drop_table(table)
