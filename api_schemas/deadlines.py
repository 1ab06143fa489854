"""Legal clocks."""

from __future__ import annotations

import calendar
from datetime import datetime, timedelta

from api_schemas.requests import Regulation

CCPA_DAYS = 45


def one_calendar_month_after(moment: datetime) -> datetime:
    """The same day of the next month, or that month's last day (31 January -> 28 February)."""
    year, month = divmod(moment.year * 12 + moment.month, 12)
    month += 1
    day = min(moment.day, calendar.monthrange(year, month)[1])
    return moment.replace(year=year, month=month, day=day)


def statutory_deadline(regulation: Regulation, received_at: datetime) -> datetime | None:
    """When the law wants it done: GDPR 12(3) one calendar month, CCPA 45 days, else never."""
    if regulation is Regulation.GDPR:
        return one_calendar_month_after(received_at)
    if regulation is Regulation.CCPA:
        return received_at + timedelta(days=CCPA_DAYS)
    return None
