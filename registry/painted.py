"""What a generator painted of a target for the report: kept as the samples are, or not at all.

The base model's pictures show whom a request is about. So a report without a retention time is
stored without them, and one with it has them sealed by the job's data key, until that is deleted.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from api_schemas.reports import Report
from registry.errors import SealBroken
from registry.sealing import DataKey
from registry.tables import JobRow


def stored(report: Report, data_key: DataKey | None) -> Report:
    """The report as it may be stored: its pictures sealed, or gone where there is no key."""
    return _each(report, None if data_key is None else data_key.seal_picture)


def shown(report: Report, data_key: DataKey | None) -> Report:
    """The report as it may be shown: with its pictures as long as they can be opened."""
    try:
        return _each(report, None if data_key is None else data_key.open_picture)
    except SealBroken:
        return _each(report, None)


def delete(session: Session, job_id: str) -> None:
    """The job's report has no picture any more; it still says how many there were. Idempotent."""
    report = session.scalar(select(JobRow.report).where(JobRow.id == job_id))
    if report is None or all(grid.png is None for grid in report.pictures):
        return
    session.execute(
        update(JobRow)
        .where(JobRow.id == job_id)
        .values(report=stored(report, None))
        .execution_options(synchronize_session=False)
    )


def _each(report: Report, change: Callable[[bytes], bytes] | None) -> Report:
    """The report with every picture changed so, or with none."""

    def changed(png: str | None) -> str | None:
        if png is None or change is None:
            return None
        return base64.b64encode(change(base64.b64decode(png))).decode()

    grids = [grid.model_copy(update={"png": changed(grid.png)}) for grid in report.pictures]
    return report.model_copy(update={"pictures": tuple(grids)})
