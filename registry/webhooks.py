"""A tenant's webhooks: where to tell what, and the secrets that sign it.

Secrets come in sealed and go out sealed: the key is not in the database.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from api_schemas.events import EventType
from api_schemas.webhooks import DeliveryStatus, DisabledReason, WebhookView
from registry import audit, ids
from registry.errors import TooManyWebhooks, WebhookNotFound
from registry.tables import DeliveryRow, WebhookRow

#: Each event makes a message per endpoint, in the transaction of the job.
MAX_WEBHOOKS: Final = 20
#: However often somebody rotates, this many signatures go into a header at most.
MAX_SECRETS: Final = 4


@dataclass(frozen=True, slots=True)
class Secret:
    """A sealed secret; ``until`` is when it stops signing, None for the one that counts."""

    sealed: str
    until: datetime | None

    def __repr__(self) -> str:
        return f"Secret(until={self.until!r})"


def add(
    session: Session,
    *,
    tenant: str,
    principal: str,
    url: str,
    events: Iterable[EventType] | None,
    sealed: str,
    now: datetime,
) -> WebhookView:
    """A new endpoint, enabled. Raises ``TooManyWebhooks``."""
    count = session.scalar(
        select(func.count()).select_from(WebhookRow).where(WebhookRow.tenant == tenant)
    )
    if (count or 0) >= MAX_WEBHOOKS:
        raise TooManyWebhooks
    webhook_id = ids.new_webhook_id()
    session.execute(
        insert(WebhookRow).values(
            id=webhook_id,
            tenant=tenant,
            url=url,
            events=_names(events),
            disabled_reason=None,
            secrets=[_written(Secret(sealed, None))],
            created_at=now,
        )
    )
    note(session, webhook_id, tenant, principal, "webhook.added", now)
    return get(session, webhook_id, tenant)


def get(session: Session, webhook_id: str, tenant: str) -> WebhookView:
    """The endpoint, if it is this tenant's. Raises ``WebhookNotFound``."""
    return _view(_row(session, webhook_id, tenant))


def every(session: Session, tenant: str) -> list[WebhookView]:
    """The tenant's endpoints, oldest first."""
    rows = session.scalars(
        select(WebhookRow)
        .where(WebhookRow.tenant == tenant)
        .order_by(WebhookRow.created_at, WebhookRow.id)
    )
    return [_view(row) for row in rows]


def change(
    session: Session,
    webhook_id: str,
    *,
    tenant: str,
    principal: str,
    enabled: bool | None,
    events: Iterable[EventType] | None,
    set_events: bool,
    now: datetime,
) -> WebhookView:
    """The endpoint, changed; idempotent. ``enabled`` None and ``set_events`` False change nothing.

    While it is disabled no message is made for it, and those that wait go on waiting. Raises
    ``WebhookNotFound``.
    """
    row = _row(session, webhook_id, tenant, lock=True)
    if set_events:
        row.events = _names(events)
    if enabled is not None:
        if enabled and row.disabled_reason is not None:
            row.disabled_reason = None
            _release(session, webhook_id, now)
        elif not enabled and row.disabled_reason is None:
            disable(session, row, DisabledReason.BY_CALLER)
    session.flush()
    note(session, webhook_id, tenant, principal, "webhook.changed", now)
    return _view(row)


def disable(session: Session, row: WebhookRow, reason: DisabledReason) -> None:
    """Nothing is sent to this endpoint any more; what waits is due again when it is enabled."""
    row.disabled_reason = reason
    session.execute(_pending(row.id).values(next_attempt_at=None))


def _release(session: Session, webhook_id: str, now: datetime) -> None:
    session.execute(
        _pending(webhook_id)
        .where(DeliveryRow.next_attempt_at.is_(None))
        .values(next_attempt_at=now)
    )


def _pending(webhook_id: str) -> Any:
    return (
        update(DeliveryRow)
        .where(DeliveryRow.webhook_id == webhook_id, DeliveryRow.status == DeliveryStatus.PENDING)
        .execution_options(synchronize_session=False)
    )


def remove(
    session: Session, webhook_id: str, *, tenant: str, principal: str, now: datetime
) -> None:
    """The endpoint is gone, with its deliveries and secrets. Raises ``WebhookNotFound``."""
    row = _row(session, webhook_id, tenant, lock=True)
    session.execute(
        delete(WebhookRow)
        .where(WebhookRow.id == row.id)
        .execution_options(synchronize_session=False)
    )
    session.expunge(row)
    note(session, webhook_id, tenant, principal, "webhook.removed", now)


def rotate(
    session: Session,
    webhook_id: str,
    *,
    tenant: str,
    principal: str,
    sealed: str,
    overlap_until: datetime,
    now: datetime,
) -> WebhookView:
    """``sealed`` is the secret that counts; the one before signs too until ``overlap_until``.

    Raises ``WebhookNotFound``.
    """
    row = _row(session, webhook_id, tenant, lock=True)
    kept = [
        Secret(secret.sealed, secret.until or overlap_until) for secret in valid(row.secrets, now)
    ]
    newest = [*kept, Secret(sealed, None)][-MAX_SECRETS:]
    row.secrets = [_written(secret) for secret in newest]
    session.flush()
    note(session, webhook_id, tenant, principal, "webhook.secret_rotated", now)
    return _view(row)


def valid(stored: Iterable[Mapping[str, Any]], now: datetime) -> list[Secret]:
    """The secrets that sign at this moment, the one that counts last."""
    secrets = [
        Secret(one["sealed"], one["until"] and datetime.fromisoformat(one["until"]))
        for one in stored
    ]
    return [secret for secret in secrets if secret.until is None or secret.until > now]


def _written(secret: Secret) -> dict[str, str | None]:
    until = None if secret.until is None else secret.until.isoformat()
    return {"sealed": secret.sealed, "until": until}


def _row(session: Session, webhook_id: str, tenant: str, *, lock: bool = False) -> WebhookRow:
    query = select(WebhookRow).where(WebhookRow.id == webhook_id, WebhookRow.tenant == tenant)
    if lock:
        query = query.with_for_update(key_share=True)
    row = session.scalar(query, execution_options={"populate_existing": True})
    if row is None:
        raise WebhookNotFound(webhook_id)
    return row


def _view(row: WebhookRow) -> WebhookView:
    return WebhookView(
        id=row.id,
        url=row.url,
        events=None if row.events is None else [EventType(name) for name in row.events],
        enabled=row.disabled_reason is None,
        disabled_reason=row.disabled_reason,
        created_at=row.created_at,
    )


def _names(events: Iterable[EventType] | None) -> list[str] | None:
    return None if events is None else [kind.value for kind in dict.fromkeys(events)]


def note(
    session: Session, webhook_id: str, tenant: str, actor: str, action: str, now: datetime
) -> None:
    """What was done to the webhook is a line of the audit log."""
    audit.append(
        session,
        tenant=tenant,
        actor=actor,
        action=action,
        object_type="webhook",
        object_id=webhook_id,
        # Not the address: what stands in its path or query may be a password.
        details={},
        now=now,
    )
