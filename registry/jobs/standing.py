"""Where jobs stand, in as few columns as whoever waits for a change needs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from api_schemas.jobs import JobStatus
from registry.events import AT_ONCE
from registry.tables import JobRow


class Standing(NamedTuple):
    """What of a job moves while one waits for it."""

    status: JobStatus
    phase: str
    fraction: float
    eta_seconds: float | None
    due_at: datetime | None


_STANDINGS: Final = select(
    JobRow.id, JobRow.status, JobRow.phase, JobRow.fraction, JobRow.eta_seconds, JobRow.due_at
).where(JobRow.id.in_(bindparam("job_ids", expanding=True)))


def standings(session: Session, job_ids: Sequence[str]) -> dict[str, Standing]:
    """Where each of these jobs stands; those that do not exist are left out."""
    found: dict[str, Standing] = {}
    for start in range(0, len(job_ids), AT_ONCE):
        ids = job_ids[start : start + AT_ONCE]
        for row in session.execute(_STANDINGS, {"job_ids": ids}):
            found[row[0]] = Standing(*row[1:])
    return found
