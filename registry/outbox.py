"""Messages that still have to reach the broker. Each is a wake-up that holds a job's id only.

A message is written in the transaction that makes it needed, published after the commit, and
then dropped from here. It may be published twice and it may be lost: the database decides what
runs, and ``resend`` repeats the wake-up of a job that nobody came for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, case, delete, exists, insert, select, update
from sqlalchemy.orm import Session

from api_schemas.jobs import JobStatus
from registry.tables import JobRow, OutboxRow

#: The longest pause between two wake-ups for one job.
LONGEST_PAUSE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Message:
    """One wake-up to publish."""

    id: int
    job_id: str


def enqueue(session: Session, job_ids: Iterable[str], now: datetime) -> None:
    """Each of these jobs will be published once the caller's transaction has committed."""
    rows = [{"job_id": job_id, "created_at": now} for job_id in job_ids]
    if rows:
        session.execute(insert(OutboxRow), rows)


def pending(session: Session, limit: int) -> list[Message]:
    """The oldest messages nobody else is publishing, at most ``limit``.

    They are the caller's until its transaction ends, and everybody's again if they were not
    marked as sent: a crash between publishing and ``mark_sent`` repeats messages, loses none.
    """
    rows = session.execute(
        select(OutboxRow.id, OutboxRow.job_id)
        .order_by(OutboxRow.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [Message(id=message_id, job_id=job_id) for message_id, job_id in rows]


def mark_sent(session: Session, ids: Iterable[int], now: datetime) -> None:
    """These messages have reached the broker and are dropped; idempotent."""
    sent = session.scalars(
        delete(OutboxRow).where(OutboxRow.id.in_(list(ids))).returning(OutboxRow.job_id)
    ).all()
    # Locked in one order, so that two relays cannot wait for each other.
    waiting = session.scalars(
        select(JobRow.id)
        .where(JobRow.id.in_(sent), JobRow.status == JobStatus.QUEUED)
        .order_by(JobRow.id)
        .with_for_update(key_share=True)
    ).all()
    session.execute(
        update(JobRow)
        .where(JobRow.id.in_(waiting))
        .values(message_sent_at=now)
        .execution_options(synchronize_session=False)
    )


def resend(session: Session, *, after_seconds: float, limit: int, now: datetime) -> int:
    """Queued jobs that nobody came for get a new message; returns how many, at most ``limit``.

    The pause before the n-th repetition is ``after_seconds`` x 2^(n-1), at most an hour, counted
    from the moment the last message was sent. A job whose message is still here gets no other.
    """
    forgotten = session.scalars(
        select(JobRow.id)
        .where(
            JobRow.status == JobStatus.QUEUED,
            JobRow.message_sent_at <= now - timedelta(seconds=after_seconds),
            JobRow.message_sent_at <= _sent_before(after_seconds, now),
            ~exists().where(OutboxRow.job_id == JobRow.id),
        )
        .order_by(JobRow.message_sent_at)
        .limit(limit)
        .with_for_update(of=JobRow, key_share=True, skip_locked=True)
    ).all()
    session.execute(
        update(JobRow)
        .where(JobRow.id.in_(forgotten))
        .values(resends=JobRow.resends + 1)
        .execution_options(synchronize_session=False)
    )
    enqueue(session, forgotten, now)
    return len(forgotten)


def _sent_before(after_seconds: float, now: datetime) -> ColumnElement[datetime]:
    """The latest moment of the last message at which a job's next one is due."""
    longest = max(LONGEST_PAUSE_SECONDS, after_seconds)
    moments: dict[int, datetime] = {}
    pause = after_seconds
    while 0 < pause < longest:
        moments[len(moments)] = now - timedelta(seconds=pause)
        pause *= 2
    latest = now - timedelta(seconds=longest if after_seconds > 0 else 0)
    if not moments:
        moments[0] = latest
    return case(moments, value=JobRow.resends, else_=latest)
