"""Quotas: how many jobs a tenant may have waiting, and how many it may send in a day."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api_schemas.jobs import JobStatus
from registry import tenants
from registry.errors import TenantNotFound
from registry.tables import JobRow, TenantRow
from registry.transitions import CLAIMED

DAY: Final = timedelta(days=1)
#: Nobody knows when a worker takes the next job; it is worth asking again after this.
QUEUE_SECONDS: Final = 60
#: Neither taken by a worker nor at its end.
_WAITING: Final = tuple(
    status for status in JobStatus if not status.is_final and status not in CLAIMED
)


def wait_seconds(session: Session, tenant: str, *, now: datetime) -> int | None:
    """None while the tenant may send one more job; else after how many seconds to try again.

    Exact in the transaction that then accepts the job: a tenant with a quota sends its jobs one
    after the other, so that two at once cannot both be the last.
    """
    try:
        settings = tenants.get(session, tenant).settings
    except TenantNotFound:
        return None
    most_queued, most_daily = settings.max_queued_jobs, settings.max_jobs_per_day
    if most_queued is None and most_daily is None:
        return None
    session.execute(select(TenantRow.id).where(TenantRow.id == tenant).with_for_update())
    waits = [0]
    if most_queued is not None and _queued(session, tenant) >= most_queued:
        waits.append(QUEUE_SECONDS)
    if most_daily is not None:
        waits.append(_daily_wait(session, tenant, most_daily, now))
    return max(waits) or None


def _queued(session: Session, tenant: str) -> int:
    count = select(func.count()).where(JobRow.tenant == tenant, JobRow.status.in_(_WAITING))
    return session.scalar(count) or 0


def _daily_wait(session: Session, tenant: str, most: int, now: datetime) -> int:
    """Seconds until one of the last ``most`` jobs is a day old; 0 while there are fewer."""
    if most == 0:
        return round(DAY.total_seconds())
    oldest = session.scalar(
        select(JobRow.created_at)
        .where(JobRow.tenant == tenant, JobRow.created_at > now - DAY)
        .order_by(JobRow.created_at.desc())
        .offset(most - 1)
        .limit(1)
    )
    return 0 if oldest is None else max(1, math.ceil((oldest + DAY - now).total_seconds()))
