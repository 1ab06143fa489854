"""What a job holds of people gets a table of its own, where it is sealed, and deleted on time.

Jobs of before keep their request in the clear until they have ended; those that have ended already
are due at once, so the janitor's first round deletes what they hold of people.
"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Written out, not imported: this script must do tomorrow what it did when it was released.
JOBS = sa.table(
    "jobs",
    sa.column("id", sa.String(64)),
    sa.column("status", sa.String(32)),
    sa.column("outcome", sa.String(32)),
    sa.column("error", sa.JSON()),
    sa.column("request", sa.JSON()),
    sa.column("lease_owner", sa.String(255)),
    sa.column("lease_expires_at", sa.DateTime(timezone=True)),
    sa.column("finished_at", sa.DateTime(timezone=True)),
)
FINAL = ("succeeded", "rejected", "failed", "canceled")
NOBODY = {"name": "deleted"}
ERROR = {
    "code": "personal_data_gone",
    "message": "The service was taken back to a release that cannot open it; send it again.",
    "retryable": True,
}


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "personal",
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("retention_days", sa.Integer(), nullable=False),
        sa.Column("data_key", sa.LargeBinary()),
        sa.Column("sealed", sa.LargeBinary()),
        sa.Column("subjects", sa.JSON()),
        sa.Column("erase_at", moment),
        sa.Column("erased_at", moment),
        sa.PrimaryKeyConstraint("job_id", name="pk_personal"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_personal_job_id"),
        sa.CheckConstraint(
            "(data_key IS NULL) = (sealed IS NULL)", name="ck_personal_sealed_with_its_key"
        ),
        sa.CheckConstraint(
            "erased_at IS NULL OR data_key IS NULL", name="ck_personal_erased_without_a_key"
        ),
    )
    op.create_index(
        "ix_personal_due",
        "personal",
        ["erase_at"],
        sqlite_where=sa.text("erased_at IS NULL"),
        postgresql_where=sa.text("erased_at IS NULL"),
    )
    op.execute(
        "INSERT INTO personal (job_id, retention_days, erase_at)"
        " SELECT id, 0, finished_at FROM jobs"
    )


def downgrade() -> None:
    """Requests that lost their targets name nobody; what was still to run has failed.

    A release of before cannot open what is sealed, and must not run it for another target.
    """
    connection = op.get_bind()
    for row in connection.execute(sa.select(JOBS)).all():
        request = dict(row.request)
        if request.get("target") or request.get("targets"):
            continue
        values: dict[str, object] = {"request": request | {"target": NOBODY}}
        if row.status not in FINAL:
            values |= {"status": "failed", "outcome": "error", "error": ERROR}
            values |= {"lease_owner": None, "lease_expires_at": None}
            values |= {"finished_at": _now(connection.dialect.name)}
        connection.execute(JOBS.update().where(JOBS.c.id == row.id).values(**values))
    op.drop_table("personal")


def _now(dialect: str) -> datetime:
    now = datetime.now(UTC)
    return now.replace(tzinfo=None) if dialect == "sqlite" else now
