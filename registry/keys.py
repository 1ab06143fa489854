"""API keys: given out once, stored as digests, ended by revocation, expiry or rotation."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import bindparam, insert, or_, select, update
from sqlalchemy.orm import Session

from api_schemas.access import Scope
from api_schemas.tenants import DEFAULT_TENANT, TenantSettings
from registry import audit, key_texts, tenants
from registry.errors import KeyEnded, KeyNotFound
from registry.tables import KeyRow, TenantRow

#: How old ``last_used_at`` may be: a busy key is then one write a minute, not one a request.
TOUCH_AFTER: Final = timedelta(minutes=1)
FIRST_KEY_NAME: Final = "first key"
#: Compared with where there is no key of that id, so that both ways cost the same.
_NO_DIGEST: Final = "0" * 64
#: Made once, because every request asks.
_HOLDER: Final = (
    select(KeyRow, TenantRow.settings)
    .join(TenantRow, TenantRow.id == KeyRow.tenant)
    .where(KeyRow.id == bindparam("key_id"))
)


@dataclass(frozen=True, slots=True)
class Key:
    """A key without anything that could stand in for it.

    ``principal`` is what jobs and the audit log call its holder. It names the key, or, after
    rotations, the first key of that line: whoever changes keys stays the same caller, keeps the
    idempotency keys, and cannot approve what was asked under the key before.
    """

    id: str
    principal: str
    tenant: str
    name: str
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None

    def ended(self, now: datetime) -> bool:
        """Whether it opens nothing any more."""
        return self.revoked_at is not None or (
            self.expires_at is not None and self.expires_at <= now
        )


@dataclass(frozen=True, slots=True)
class Issued:
    """A new key, with the text that is known this one time only."""

    key: Key
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who presented a valid key, what it may do, and what its tenant may use."""

    key: Key
    settings: TenantSettings


def create(
    session: Session,
    *,
    tenant: str,
    name: str,
    scopes: Iterable[Scope],
    expires_at: datetime | None,
    actor: str,
    now: datetime,
) -> Issued:
    """A new key of the tenant. ``name`` is for people to tell keys apart by, at most 255 letters.

    Raises ``TenantNotFound``.
    """
    tenants.get(session, tenant)
    key_id, text = key_texts.new()
    key = Key(
        id=key_id,
        principal=f"key:{key_id}",
        tenant=tenant,
        name=name,
        scopes=frozenset(scopes),
        created_at=now,
        expires_at=expires_at,
        last_used_at=None,
        revoked_at=None,
    )
    _insert(session, key, text)
    _note(session, "key.created", key, actor, now)
    return Issued(key, text)


def first(session: Session, *, actor: str, now: datetime) -> Issued | None:
    """The tenant ``default`` is there; a key with every scope, where there never was any key.

    None from the second time on, whatever became of the first one, and for the slower of two
    processes that ask at once.
    """
    tenants.ensure(session, DEFAULT_TENANT, actor=actor, now=now)
    # The row is the lock: who waits here sees the other's key afterwards.
    session.execute(select(TenantRow.id).where(TenantRow.id == DEFAULT_TENANT).with_for_update())
    if session.scalars(select(KeyRow.id).limit(1)).first() is not None:
        return None
    return create(
        session,
        tenant=DEFAULT_TENANT,
        name=FIRST_KEY_NAME,
        scopes=Scope,
        expires_at=None,
        actor=actor,
        now=now,
    )


def authenticate(session: Session, text: str, *, now: datetime) -> Holder | None:
    """Whose key this is; None when it is mistyped, unknown, expired or revoked.

    One look-up, no write. The digests are compared in constant time.
    """
    key_id = key_texts.id_in(text)
    if key_id is None:
        return None
    found = session.execute(_HOLDER, {"key_id": key_id}).first()
    expected = _NO_DIGEST if found is None else found[0].sha256
    if not hmac.compare_digest(expected, key_texts.digest(text)) or found is None:
        return None
    key = _from_row(found[0])
    return None if key.ended(now) else Holder(key, found[1])


def is_stale(key: Key, now: datetime) -> bool:
    """Whether ``touch`` would write anything."""
    return key.last_used_at is None or key.last_used_at <= now - TOUCH_AFTER


def touch(session: Session, key_id: str, *, now: datetime) -> None:
    """``last_used_at`` is now, unless it was already within the last minute."""
    session.execute(
        update(KeyRow)
        .where(
            KeyRow.id == key_id,
            or_(KeyRow.last_used_at.is_(None), KeyRow.last_used_at <= now - TOUCH_AFTER),
        )
        .values(last_used_at=now)
    )


def get(session: Session, key_id: str) -> Key:
    """The key. Raises ``KeyNotFound``."""
    row = session.scalars(
        select(KeyRow).where(KeyRow.id == key_id).execution_options(populate_existing=True)
    ).first()
    if row is None:
        raise KeyNotFound(key_id)
    return _from_row(row)


def all_keys(session: Session, tenant: str | None = None) -> list[Key]:
    """Every key, or every key of the tenant, oldest first; ended ones too."""
    query = select(KeyRow).order_by(KeyRow.created_at, KeyRow.id)
    if tenant is not None:
        query = query.where(KeyRow.tenant == tenant)
    return [_from_row(row) for row in session.scalars(query)]


def revoke(session: Session, key_id: str, *, actor: str, now: datetime) -> Key:
    """The key opens nothing from now on; idempotent. Raises ``KeyNotFound``."""
    key = get(session, key_id)
    if key.revoked_at is not None:
        return key
    session.execute(update(KeyRow).where(KeyRow.id == key_id).values(revoked_at=now))
    _note(session, "key.revoked", key, actor, now)
    return get(session, key_id)


def rotate(
    session: Session, key_id: str, *, overlap: timedelta, actor: str, now: datetime
) -> Issued:
    """A new key for the same caller, with the same scopes; the old one lives on for ``overlap``.

    A key that was to expire gets a successor that lives as long as it did. The overlap never
    prolongs the old one. Raises ``KeyNotFound``; ``KeyEnded`` for one that opens nothing any more.
    """
    old = get(session, key_id)
    if old.ended(now):
        raise KeyEnded(key_id)
    key_id, text = key_texts.new()
    key = replace(
        old,
        id=key_id,
        created_at=now,
        expires_at=None if old.expires_at is None else now + (old.expires_at - old.created_at),
        last_used_at=None,
    )
    _insert(session, key, text)
    end = now + overlap
    if old.expires_at is None or end < old.expires_at:
        session.execute(update(KeyRow).where(KeyRow.id == old.id).values(expires_at=end))
    _note(session, "key.rotated", key, actor, now, replaces=old.id)
    return Issued(key, text)


def _insert(session: Session, key: Key, text: str) -> None:
    session.execute(
        insert(KeyRow).values(
            id=key.id,
            principal=key.principal,
            tenant=key.tenant,
            name=key.name,
            sha256=key_texts.digest(text),
            scopes=sorted(key.scopes),
            created_at=key.created_at,
            expires_at=key.expires_at,
        )
    )


def _note(
    session: Session, action: str, key: Key, actor: str, now: datetime, **more: object
) -> None:
    # Not its name: people name keys after people.
    details = {"tenant": key.tenant, "scopes": sorted(key.scopes), **more}
    audit.append(
        session,
        tenant=key.tenant,
        actor=actor,
        action=action,
        object_type="key",
        object_id=key.id,
        details=details,
        now=now,
    )


def _from_row(row: KeyRow) -> Key:
    return Key(
        id=row.id,
        principal=row.principal,
        tenant=row.tenant,
        name=row.name,
        scopes=frozenset(Scope(scope) for scope in row.scopes),
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )
