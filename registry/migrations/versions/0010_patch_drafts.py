"""Patch files are noted before they are stored; patches are found by their file."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "patch_drafts",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("noted_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_patch_drafts_job_id"),
        sa.PrimaryKeyConstraint("sha256", "job_id", name="pk_patch_drafts"),
    )
    op.create_index("ix_patches_sha256", "patches", ["sha256"])


def downgrade() -> None:
    """Files that were noted and have no row stay for good, as they did before."""
    op.drop_index("ix_patches_sha256", table_name="patches")
    op.drop_table("patch_drafts")
