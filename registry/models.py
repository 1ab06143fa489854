"""The shelf: models that can be edited, and the line of versions of each.

A line is the versions that are not revoked, each made on the one before. ``registry.revoking``
takes a version out of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from api_schemas.shelf import ModelRecord, VersionView
from registry import audit, patches
from registry.errors import ModelExists, ModelNotFound, StaleParent, VersionNotFound
from registry.inserts import insert_if_absent
from registry.tables import JobRow, ModelRow, VersionRow


@dataclass(frozen=True, slots=True)
class Model:
    """A model on the shelf. The record's paths are absolute; ``digest`` is its checkpoint's.

    ``latest_version`` is the end of its line.
    """

    record: ModelRecord
    digest: str
    domains: tuple[str, ...]
    methods: tuple[str, ...]
    created_at: datetime
    latest_version: int


def add(
    session: Session,
    record: ModelRecord,
    *,
    digest: str,
    domains: Sequence[str],
    methods: Sequence[str],
    principal: str,
    now: datetime,
) -> Model:
    """The model is on the shelf, with its version 0 (the weights as registered).

    Idempotent: the same record and digest again change nothing but ``domains`` and ``methods``,
    which follow from the data and the release. Raises ``ModelExists`` when the id stands for
    another record or other weights.
    """
    derived = {"domains": list(domains), "methods": list(methods)}
    values = {"id": record.id, "record": record, "digest": digest, "created_at": now}
    if not insert_if_absent(session, ModelRow, values | derived):
        known = get(session, record.id)
        if known.record != record or known.digest != digest:
            raise ModelExists(record.id)
        if (known.domains, known.methods) != (tuple(domains), tuple(methods)):
            session.execute(update(ModelRow).where(ModelRow.id == record.id).values(**derived))
        return get(session, record.id)
    base = {"number": 0, "parent": None, "patch_id": None, "job_id": None}
    session.execute(insert(VersionRow).values(model_id=record.id, created_at=now, **base))
    audit.append(
        session,
        tenant=None,
        actor=principal,
        action="model.added",
        object_type="model",
        object_id=record.id,
        details={"family": record.family.value, "digest": digest},
        now=now,
    )
    return get(session, record.id)


def get(session: Session, model_id: str) -> Model:
    """The model. Raises ``ModelNotFound``."""
    for model in _load(session, model_id):
        return model
    raise ModelNotFound(model_id)


def all_models(session: Session) -> list[Model]:
    """Every model, by id."""
    return _load(session)


def lock(session: Session, model_id: str) -> None:
    """The model's line changes in no other transaction before this one ends.

    Raises ``ModelNotFound``.
    """
    query = select(ModelRow.id).where(ModelRow.id == model_id).with_for_update(key_share=True)
    if session.scalar(query) is None:
        raise ModelNotFound(model_id)


def versions(session: Session, model_id: str, tenant: str | None = None) -> list[VersionView]:
    """Every version, oldest (0, the base) first, revoked ones too. Raises ``ModelNotFound``.

    With ``tenant``, the jobs and patches of others are there without their ids.
    """
    rows = session.execute(
        select(VersionRow, JobRow.tenant)
        .outerjoin(JobRow, JobRow.id == VersionRow.job_id)
        .where(VersionRow.model_id == model_id)
        .order_by(VersionRow.number)
        .execution_options(populate_existing=True)
    ).all()
    if not rows:
        raise ModelNotFound(model_id)
    return [_view(row, hidden=tenant is not None and owner != tenant) for row, owner in rows]


def version(session: Session, model_id: str, number: int) -> VersionView:
    """One version, revoked or not. Raises ``ModelNotFound``, ``VersionNotFound``."""
    for found in versions(session, model_id):
        if found.number == number:
            return found
    raise VersionNotFound(model_id, number)


def lineage(session: Session, model_id: str, number: int) -> list[patches.Patch]:
    """The patches behind version ``number`` in order: it is the base and then each of them.

    Also of a revoked version: what it was made of stays true. Raises ``ModelNotFound``;
    ``VersionNotFound``.
    """
    parents = {found.number: found.parent for found in versions(session, model_id)}
    if number not in parents:
        raise VersionNotFound(model_id, number)
    line = []
    while number:
        line.append(number)
        number = parents[number] or 0
    return patches.in_line(session, model_id, line)


def check_parent(session: Session, model_id: str, parent: int) -> None:
    """Pass if ``parent`` is the end of the model's line; raises ``StaleParent`` if not.

    It stays the end until the transaction ends. Two patches made on the same weights are never
    summed.
    """
    lock(session, model_id)
    latest = get(session, model_id).latest_version
    if parent != latest:
        raise StaleParent(model_id, expected=latest, found=parent)


def next_number(session: Session, model_id: str) -> int:
    """What the model's next version is called; no number, of a revoked one either, comes twice."""
    query = select(func.max(VersionRow.number)).where(VersionRow.model_id == model_id)
    last = session.scalar(query)
    assert last is not None, "a model on the shelf has version 0"
    return last + 1


def publish(
    session: Session, model_id: str, *, parent: int, patch_id: str, job_id: str, now: datetime
) -> None:
    """The patch is the model's next version, on ``parent``; a fork would be an integrity error."""
    number = next_number(session, model_id)
    made = {"patch_id": patch_id, "job_id": job_id, "created_at": now}
    session.execute(
        insert(VersionRow).values(model_id=model_id, number=number, parent=parent, **made)
    )


def _view(row: VersionRow, *, hidden: bool) -> VersionView:
    return VersionView(
        model=row.model_id,
        number=row.number,
        parent=row.parent,
        patch_id=None if hidden else row.patch_id,
        job_id=None if hidden else row.job_id,
        created_at=row.created_at,
        revoked_at=row.revoked_at,
        revoked_reason=row.revoked_reason,
        revoked_with=row.revoked_with,
    )


def _load(session: Session, model_id: str | None = None) -> list[Model]:
    latest = (
        select(func.max(VersionRow.number))
        .where(VersionRow.model_id == ModelRow.id, VersionRow.revoked_at.is_(None))
        .scalar_subquery()
    )
    query = select(ModelRow, latest).order_by(ModelRow.id)
    if model_id is not None:
        query = query.where(ModelRow.id == model_id)
    found = session.execute(query, execution_options={"populate_existing": True})
    return [
        Model(
            record=row.record,
            digest=row.digest,
            domains=tuple(row.domains),
            methods=tuple(row.methods),
            created_at=row.created_at,
            latest_version=number,
        )
        for row, number in found
    ]
