"""Lists of jobs, page by page."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime

from sqlalchemy import literal, tuple_
from sqlalchemy.orm import Session

from api_schemas.jobs import JobStatus
from registry.columns import Identifier, UtcDateTime
from registry.errors import InvalidCursor
from registry.jobs import record
from registry.jobs.record import Job
from registry.tables import JobRow


def page(
    session: Session,
    *,
    tenant: str,
    limit: int,
    cursor: str | None = None,
    status: JobStatus | None = None,
    model: str | None = None,
) -> tuple[list[Job], str | None]:
    """At most ``limit`` of the tenant's jobs, newest first, and the cursor of the next page.

    The cursor is None on the last page. A job that exists when the first page is read is on
    exactly one page, whatever is accepted meanwhile. Raises ``InvalidCursor``.
    """
    query = (
        record.rows()
        .where(JobRow.tenant == tenant)
        .order_by(JobRow.created_at.desc(), JobRow.id.desc())
        .limit(limit + 1)
    )
    if status is not None:
        query = query.where(JobRow.status == status)
    if model is not None:
        query = query.where(JobRow.model_id == model)
    if cursor is not None:
        created_at, job_id = _read(cursor)
        last = tuple_(literal(created_at, UtcDateTime), literal(job_id, Identifier))
        query = query.where(tuple_(JobRow.created_at, JobRow.id) < last)
    jobs = [record.from_row(row) for row in session.execute(query)]
    more = len(jobs) > limit
    return jobs[:limit], _write(jobs[limit - 1]) if more else None


def _write(job: Job) -> str:
    place = json.dumps([job.created_at.isoformat(), job.id])
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _read(cursor: str) -> tuple[datetime, str]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        created_at, job_id = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        moment = datetime.fromisoformat(created_at)
        if moment.tzinfo is None or not isinstance(job_id, str) or "\0" in job_id:
            raise InvalidCursor
        return moment.astimezone(UTC), job_id
    except (binascii.Error, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidCursor from error
