"""The audit log: who did what to which object, in order, never changed afterwards.

``details`` hold counts, states and ids. No name, prompt or picture is ever written here: the log
outlives the data that it speaks of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session

from registry.tables import AuditRow

#: Any number that nothing else in the database locks; these are the letters "AUDT".
_LOCK = 0x41554454


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log. ``id`` grows in the order in which the lines became visible."""

    id: int
    at: datetime
    actor: str
    action: str
    object_type: str
    object_id: str
    details: dict[str, object]


def append(
    session: Session,
    *,
    actor: str,
    action: str,
    object_type: str,
    object_id: str,
    details: Mapping[str, object],
    now: datetime,
) -> None:
    """The line is in the log if and only if the caller's transaction commits.

    Call it last in a transaction: until the commit, other transactions that append will wait.
    """
    if session.get_bind().dialect.name == "postgresql":
        # Ids are given out before commits. Without the lock a reader could see line 7, move on,
        # and never see line 6, whose transaction commits later.
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    session.execute(
        insert(AuditRow).values(
            at=now,
            actor=actor,
            action=action,
            object_type=object_type,
            object_id=object_id,
            details=dict(details),
        )
    )


def entries(
    session: Session, after: int = 0, limit: int = 100, *, object_id: str | None = None
) -> list[Entry]:
    """The lines with ids above ``after``, oldest first, at most ``limit``.

    With ``object_id``, only what happened to that object. A reader that goes on after the last
    id it saw misses nothing and sees nothing twice.
    """
    query = select(AuditRow).where(AuditRow.id > after).order_by(AuditRow.id).limit(limit)
    if object_id is not None:
        query = query.where(AuditRow.object_id == object_id)
    return [
        Entry(
            id=row.id,
            at=row.at,
            actor=row.actor,
            action=row.action,
            object_type=row.object_type,
            object_id=row.object_id,
            details=row.details,
        )
        for row in session.scalars(query)
    ]
