"""Legal clocks."""

from __future__ import annotations

import calendar
from datetime import datetime, timedelta

from api_schemas.requests import Regulation

CCPA_DAYS = 45
GDPR_MONTHS = 1
#: What may be added once: GDPR 12(3), second sentence; California Civil Code 1798.130(a)(2)(A).
GDPR_EXTENSION_MONTHS = 2
CCPA_EXTENSION_DAYS = 45


def calendar_months_after(moment: datetime, months: int) -> datetime:
    """The same day so many months on, or that month's last day (31 January -> 28 February)."""
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    month += 1
    day = min(moment.day, calendar.monthrange(year, month)[1])
    return moment.replace(year=year, month=month, day=day)


def statutory_deadline(regulation: Regulation, received_at: datetime) -> datetime | None:
    """When the law wants it done: GDPR 12(3) one calendar month, CCPA 45 days, else never."""
    if regulation is Regulation.GDPR:
        return calendar_months_after(received_at, GDPR_MONTHS)
    if regulation is Regulation.CCPA:
        return received_at + timedelta(days=CCPA_DAYS)
    return None


def extended_deadline(regulation: Regulation, received_at: datetime) -> datetime | None:
    """The latest that the law allows after its one extension; None where there is no law's clock.

    Both are counted from the receipt: three calendar months after 31 January are over on 30 April,
    not on the 28th, as two months after the 28th of February would be.
    """
    if regulation is Regulation.GDPR:
        return calendar_months_after(received_at, GDPR_MONTHS + GDPR_EXTENSION_MONTHS)
    if regulation is Regulation.CCPA:
        return received_at + timedelta(days=CCPA_DAYS + CCPA_EXTENSION_DAYS)
    return None
