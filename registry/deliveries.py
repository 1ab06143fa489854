"""Messages to webhooks: made with the event, taken by one sender at a time, tried on a schedule.

A message is written in the transaction of its event and sent after the commit. It may be sent
twice (a sender that dies after sending is not believed), and it is not lost: at least once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from api_schemas.events import EventType, JobEvent
from api_schemas.webhooks import (
    PING,
    AttemptView,
    DeliveryFailure,
    DeliveryStatus,
    DeliveryView,
    DisabledReason,
)
from registry import ids, webhooks
from registry.errors import DeliveryNotFound, InvalidCursor, WebhookDisabled, WebhookNotFound
from registry.tables import AttemptRow, DeliveryRow, JobEventRow, WebhookRow

#: Pauses before each attempt (Standard Webhooks); after the last one a message is dead.
SCHEDULE_SECONDS: Final = (0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
#: By this answer a receiver says that it wants no more messages.
GONE: Final = 410


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message that this sender alone holds until its claim runs out. Its repr shows no address.

    ``event`` is None for a test. ``secrets`` are sealed; each signs.
    """

    id: str
    token: int
    webhook_id: str
    url: str
    secrets: tuple[webhooks.Secret, ...]
    created_at: datetime
    event: JobEvent | None

    def __repr__(self) -> str:
        return f"Claimed(id={self.id!r}, token={self.token})"


@dataclass(frozen=True, slots=True)
class Result:
    """What came back: a status code, or why there was no answer. Exactly one of the two is set."""

    status_code: int | None = None
    failure: DeliveryFailure | None = None

    @property
    def is_success(self) -> bool:
        """Whether the receiver has it."""
        return self.status_code is not None and 200 <= self.status_code < 300


def enqueue(
    session: Session, *, tenant: str, job_id: str, number: int, kind: EventType, now: datetime
) -> None:
    """A message to each of the tenant's enabled endpoints that wants this type of event.

    The endpoints are locked against removal until the commit, so that one that is being removed
    cannot make the event fail.
    """
    endpoints = session.execute(
        select(WebhookRow.id, WebhookRow.events)
        .where(WebhookRow.tenant == tenant, WebhookRow.disabled_reason.is_(None))
        .with_for_update(read=True, key_share=True)
    )
    for webhook_id, wanted in endpoints:
        if wanted is None or kind.value in wanted:
            _insert(session, webhook_id, now, job_id=job_id, event_number=number)


def test(session: Session, webhook_id: str, *, tenant: str, now: datetime) -> DeliveryView:
    """A message that says nothing, tried once. Raises ``WebhookNotFound``, ``WebhookDisabled``."""
    _check_enabled(session, webhook_id, tenant)
    delivery_id = _insert(session, webhook_id, now)
    return get(session, webhook_id, delivery_id, tenant)


def claim(
    session: Session,
    *,
    endpoints: int,
    each: int,
    lease_seconds: float,
    now: datetime,
    besides: Collection[str] = (),
) -> list[Claimed]:
    """Messages that are due and nobody else holds: of so many endpoints, ``each`` of one.

    They are the caller's for ``lease_seconds``; then, unless settled, anybody's. The endpoints
    whose messages wait longest come first, and the messages of one stand together, in the order in
    which they became due. ``besides`` these endpoints.
    """
    due = (
        DeliveryRow.status == DeliveryStatus.PENDING,
        DeliveryRow.next_attempt_at <= now,
    )
    others = (DeliveryRow.webhook_id.not_in(besides),) if besides else ()
    waiting = session.scalars(
        select(DeliveryRow.webhook_id)
        .where(*due, *others)
        .group_by(DeliveryRow.webhook_id)
        .order_by(func.min(DeliveryRow.next_attempt_at))
        .limit(endpoints)
    ).all()
    taken: list[Claimed] = []
    for webhook_id in waiting:
        rows = session.scalars(
            select(DeliveryRow)
            .join(WebhookRow, WebhookRow.id == DeliveryRow.webhook_id)
            .where(*due, DeliveryRow.webhook_id == webhook_id, WebhookRow.disabled_reason.is_(None))
            .order_by(DeliveryRow.next_attempt_at, DeliveryRow.created_at, DeliveryRow.id)
            .limit(each)
            .with_for_update(of=DeliveryRow, skip_locked=True)
            .execution_options(populate_existing=True)
        ).all()
        for row in rows:
            row.token += 1
            row.next_attempt_at = now + timedelta(seconds=lease_seconds)
        session.flush()
        taken += _claimed(session, webhook_id, rows, now)
    return taken


def settle(
    session: Session, delivery_id: str, token: int, result: Result, *, now: datetime
) -> DeliveryStatus | None:
    """What came of an attempt is written: done, dead, or due again by the schedule.

    An endpoint that answered 410 is disabled. None, and nothing is written, when this claim is
    not the current one: somebody else has taken the message since, or it is gone.
    """
    webhook_id = session.scalar(select(DeliveryRow.webhook_id).where(DeliveryRow.id == delivery_id))
    if webhook_id is None:
        return None
    # The endpoint before the message, as everywhere: two transactions cannot wait for each other.
    endpoint = session.scalar(
        select(WebhookRow)
        .where(WebhookRow.id == webhook_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    row = session.scalar(
        select(DeliveryRow)
        .where(DeliveryRow.id == delivery_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    if endpoint is None or row is None or row.token != token:
        return None
    row.tries += 1
    row.attempts += 1
    row.status = _status_after(row, result)
    row.next_attempt_at = None
    if row.status is DeliveryStatus.PENDING and endpoint.disabled_reason is None:
        row.next_attempt_at = now + timedelta(seconds=SCHEDULE_SECONDS[row.tries])
    session.execute(
        insert(AttemptRow).values(
            delivery_id=delivery_id,
            number=row.attempts,
            at=now,
            status_code=result.status_code,
            failure=result.failure,
        )
    )
    session.flush()
    if result.status_code == GONE and endpoint.disabled_reason is None:
        webhooks.disable(session, endpoint, DisabledReason.GONE)
        session.flush()
        webhooks.note(session, webhook_id, endpoint.tenant, "webhooks", "webhook.disabled", now)
    return row.status


def _status_after(row: DeliveryRow, result: Result) -> DeliveryStatus:
    if result.is_success:
        return DeliveryStatus.DELIVERED
    is_test = row.job_id is None
    over = is_test or row.tries >= len(SCHEDULE_SECONDS) or result.status_code == GONE
    return DeliveryStatus.DEAD if over else DeliveryStatus.PENDING


def give_back(session: Session, delivery_id: str, token: int, now: datetime) -> None:
    """A message that was taken and not sent is due again."""
    session.execute(
        update(DeliveryRow)
        .where(
            DeliveryRow.id == delivery_id,
            DeliveryRow.token == token,
            DeliveryRow.status == DeliveryStatus.PENDING,
        )
        .values(next_attempt_at=now)
        .execution_options(synchronize_session=False)
    )


def replay(
    session: Session,
    webhook_id: str,
    delivery_id: str,
    *,
    tenant: str,
    principal: str,
    now: datetime,
) -> DeliveryView:
    """The message is due now, under its old id, and its schedule starts anew.

    Raises ``WebhookNotFound``, ``DeliveryNotFound``, ``WebhookDisabled``.
    """
    _check_enabled(session, webhook_id, tenant)
    replayed = session.scalar(
        update(DeliveryRow)
        .where(DeliveryRow.id == delivery_id, DeliveryRow.webhook_id == webhook_id)
        # A new token: what an attempt under way comes to is not this round's result.
        .values(
            status=DeliveryStatus.PENDING,
            tries=0,
            token=DeliveryRow.token + 1,
            next_attempt_at=now,
        )
        .returning(DeliveryRow.id)
        .execution_options(synchronize_session=False)
    )
    if replayed is None:
        raise DeliveryNotFound(delivery_id)
    view = get(session, webhook_id, delivery_id, tenant)
    webhooks.note(session, webhook_id, tenant, principal, "webhook.replayed", now)
    return view


def prune(session: Session, *, before: datetime, limit: int) -> int:
    """How many messages are gone, with their attempts: ``limit`` at most, made ``before`` then.

    Only such as are done, one way or the other, and were not tried since (by a replay).
    """
    tried_since = select(AttemptRow.delivery_id).where(AttemptRow.at >= before)
    old = (
        select(DeliveryRow.id)
        .where(
            DeliveryRow.status != DeliveryStatus.PENDING,
            DeliveryRow.created_at < before,
            DeliveryRow.id.not_in(tried_since),
        )
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    gone = session.scalars(old).all()
    session.execute(
        delete(DeliveryRow)
        .where(DeliveryRow.id.in_(gone))
        .execution_options(synchronize_session=False)
    )
    return len(gone)


def get(session: Session, webhook_id: str, delivery_id: str, tenant: str) -> DeliveryView:
    """One message with its attempts. Raises ``WebhookNotFound``, ``DeliveryNotFound``."""
    webhooks.get(session, webhook_id, tenant)
    row = session.scalar(
        select(DeliveryRow)
        .where(DeliveryRow.id == delivery_id, DeliveryRow.webhook_id == webhook_id)
        .execution_options(populate_existing=True)
    )
    if row is None:
        raise DeliveryNotFound(delivery_id)
    return _views(session, [row])[0]


def page(
    session: Session, webhook_id: str, *, tenant: str, limit: int, cursor: str | None = None
) -> tuple[list[DeliveryView], str | None]:
    """At most ``limit`` of the endpoint's messages, newest first, and the cursor of the next page.

    The cursor is None on the last page. Raises ``WebhookNotFound``, ``InvalidCursor``.
    """
    webhooks.get(session, webhook_id, tenant)
    query = (
        select(DeliveryRow)
        .where(DeliveryRow.webhook_id == webhook_id)
        .order_by(DeliveryRow.created_at.desc(), DeliveryRow.id.desc())
        .limit(limit + 1)
    )
    if cursor is not None:
        last = session.scalar(
            select(DeliveryRow).where(
                DeliveryRow.id == cursor, DeliveryRow.webhook_id == webhook_id
            )
        )
        if last is None:
            raise InvalidCursor
        query = query.where(
            (DeliveryRow.created_at < last.created_at)
            | ((DeliveryRow.created_at == last.created_at) & (DeliveryRow.id < last.id))
        )
    rows = session.scalars(query).all()
    more = len(rows) > limit
    return _views(session, rows[:limit]), rows[limit - 1].id if more else None


def _insert(
    session: Session,
    webhook_id: str,
    now: datetime,
    *,
    job_id: str | None = None,
    event_number: int | None = None,
) -> str:
    delivery_id = ids.new_delivery_id()
    session.execute(
        insert(DeliveryRow).values(
            id=delivery_id,
            webhook_id=webhook_id,
            job_id=job_id,
            event_number=event_number,
            status=DeliveryStatus.PENDING,
            tries=0,
            attempts=0,
            token=0,
            created_at=now,
            next_attempt_at=now,
        )
    )
    return delivery_id


def _check_enabled(session: Session, webhook_id: str, tenant: str) -> None:
    """Pass if messages may be sent; it stays so until the transaction ends."""
    found = session.execute(
        select(WebhookRow.disabled_reason)
        .where(WebhookRow.id == webhook_id, WebhookRow.tenant == tenant)
        .with_for_update(key_share=True)
    ).first()
    if found is None:
        raise WebhookNotFound(webhook_id)
    if found.disabled_reason is not None:
        raise WebhookDisabled(webhook_id)


def _claimed(
    session: Session, webhook_id: str, rows: Sequence[DeliveryRow], now: datetime
) -> list[Claimed]:
    if not rows:
        return []
    endpoint = session.get_one(WebhookRow, webhook_id, populate_existing=True)
    secrets = tuple(webhooks.valid(endpoint.secrets, now))
    return [
        Claimed(
            id=row.id,
            token=row.token,
            webhook_id=webhook_id,
            url=endpoint.url,
            secrets=secrets,
            created_at=row.created_at,
            event=_event(session, row),
        )
        for row in rows
    ]


def _event(session: Session, row: DeliveryRow) -> JobEvent | None:
    if row.job_id is None:
        return None
    found = session.get_one(JobEventRow, (row.job_id, row.event_number))
    return JobEvent(
        id=found.number, type=found.type, job_id=found.job_id, at=found.at, data=found.data
    )


def _views(session: Session, rows: Sequence[DeliveryRow]) -> list[DeliveryView]:
    attempts: dict[str, list[AttemptView]] = {row.id: [] for row in rows}
    for one in session.scalars(
        select(AttemptRow)
        .where(AttemptRow.delivery_id.in_(attempts))
        .order_by(AttemptRow.delivery_id, AttemptRow.number)
    ):
        attempts[one.delivery_id].append(
            AttemptView(
                number=one.number, at=one.at, status_code=one.status_code, failure=one.failure
            )
        )
    return [
        DeliveryView(
            id=row.id,
            webhook_id=row.webhook_id,
            type=PING if row.job_id is None else _kind(session, row),
            job_id=row.job_id,
            event_id=row.event_number,
            status=row.status,
            created_at=row.created_at,
            next_attempt_at=row.next_attempt_at,
            attempts=attempts[row.id],
        )
        for row in rows
    ]


def _kind(session: Session, row: DeliveryRow) -> str:
    return session.get_one(JobEventRow, (row.job_id, row.event_number)).type.value
