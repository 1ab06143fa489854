"""Pictures that a generator painted of a target leave the reports of jobs that have ended.

From here on they are deleted with the samples, or sealed until then. Those of before lie in the
clear, so they go; the reports keep how many there were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# Written out, not imported: this script must do tomorrow what it did when it was released.
JOBS = sa.table("jobs", sa.column("id", sa.String(64)), sa.column("report", sa.JSON()))


def upgrade() -> None:
    _change_pictures(lambda grids: [grid | {"png": None} for grid in grids])


def downgrade() -> None:
    """The older release cannot read a report with pictures that are gone, or sealed."""
    _change_pictures(lambda grids: [])


def _change_pictures(change: Callable[[list[Any]], list[Any]]) -> None:
    connection = op.get_bind()
    # One at a time: reports are large.
    for job_id in connection.scalars(sa.select(JOBS.c.id)).all():
        report = connection.scalar(sa.select(JOBS.c.report).where(JOBS.c.id == job_id))
        if report and report.get("pictures"):
            changed = report | {"pictures": change(report["pictures"])}
            connection.execute(JOBS.update().where(JOBS.c.id == job_id).values(report=changed))
