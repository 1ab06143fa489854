"""Tenants: the rows that keys, jobs and patches belong to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from api_schemas.tenants import TenantSettings
from registry import audit
from registry.errors import TenantExists, TenantNotFound
from registry.inserts import insert_if_absent
from registry.tables import TenantRow


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant and what was settled for it."""

    id: str
    settings: TenantSettings
    created_at: datetime


def add(
    session: Session, tenant_id: str, settings: TenantSettings, *, actor: str, now: datetime
) -> Tenant:
    """The tenant is there. Raises ``TenantExists``, also when it has these very settings."""
    values = {"id": tenant_id, "settings": settings, "created_at": now}
    if not insert_if_absent(session, TenantRow, values):
        raise TenantExists(tenant_id)
    _note(session, tenant_id, "tenant.added", settings, actor, now)
    return get(session, tenant_id)


def ensure(session: Session, tenant_id: str, *, actor: str, now: datetime) -> Tenant:
    """The tenant is there, with the default settings if it was not; idempotent."""
    try:
        return get(session, tenant_id)
    except TenantNotFound:
        pass
    try:
        return add(session, tenant_id, TenantSettings(), actor=actor, now=now)
    except TenantExists:  # another process was faster
        return get(session, tenant_id)


def get(session: Session, tenant_id: str) -> Tenant:
    """The tenant. Raises ``TenantNotFound``."""
    row = session.scalars(
        select(TenantRow).where(TenantRow.id == tenant_id).execution_options(populate_existing=True)
    ).first()
    if row is None:
        raise TenantNotFound(tenant_id)
    return _from_row(row)


def all_tenants(session: Session) -> list[Tenant]:
    """Every tenant, by id."""
    return [_from_row(row) for row in session.scalars(select(TenantRow).order_by(TenantRow.id))]


def change(
    session: Session, tenant_id: str, settings: TenantSettings, *, actor: str, now: datetime
) -> Tenant:
    """The tenant with these settings instead of its own. Raises ``TenantNotFound``."""
    get(session, tenant_id)
    session.execute(update(TenantRow).where(TenantRow.id == tenant_id).values(settings=settings))
    _note(session, tenant_id, "tenant.changed", settings, actor, now)
    return get(session, tenant_id)


def _note(
    session: Session,
    tenant_id: str,
    action: str,
    settings: TenantSettings,
    actor: str,
    now: datetime,
) -> None:
    audit.append(
        session,
        tenant=tenant_id,
        actor=actor,
        action=action,
        object_type="tenant",
        object_id=tenant_id,
        details=settings.model_dump(mode="json"),
        now=now,
    )


def _from_row(row: TenantRow) -> Tenant:
    return Tenant(id=row.id, settings=row.settings, created_at=row.created_at)
