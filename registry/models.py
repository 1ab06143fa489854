"""The shelf: models that can be edited, and the line of versions of each."""

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
from registry.tables import ModelRow, VersionRow


@dataclass(frozen=True, slots=True)
class Model:
    """A model on the shelf. The record's paths are absolute; ``digest`` is its checkpoint's."""

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
    _add_version(session, record.id, number=0, patch_id=None, job_id=None, now=now)
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


def versions(session: Session, model_id: str) -> list[VersionView]:
    """The line of versions, oldest (0, the base) first. Raises ``ModelNotFound``."""
    rows = session.scalars(
        select(VersionRow).where(VersionRow.model_id == model_id).order_by(VersionRow.number)
    ).all()
    if not rows:
        raise ModelNotFound(model_id)
    return [
        VersionView(
            model=row.model_id,
            number=row.number,
            parent=row.parent,
            patch_id=row.patch_id,
            job_id=row.job_id,
            created_at=row.created_at,
        )
        for row in rows
    ]


def lineage(session: Session, model_id: str, number: int) -> list[patches.Patch]:
    """The patches 1..number in order: version ``number`` = the base and then each of them.

    Raises ``ModelNotFound``; ``VersionNotFound`` if the line does not reach that far.
    """
    if not 0 <= number <= get(session, model_id).latest_version:
        raise VersionNotFound(model_id, number)
    return patches.in_line(session, model_id, number)


def check_parent(session: Session, model_id: str, parent: int) -> None:
    """Pass if ``parent`` is the model's latest version; raises ``StaleParent`` if not.

    Two patches made on the same weights are never summed.
    """
    latest = get(session, model_id).latest_version
    if parent != latest:
        raise StaleParent(model_id, expected=latest, found=parent)


def publish(
    session: Session, model_id: str, *, parent: int, patch_id: str, job_id: str, now: datetime
) -> None:
    """The patch is version ``parent`` + 1 of the model; a fork would be an integrity error."""
    _add_version(session, model_id, number=parent + 1, patch_id=patch_id, job_id=job_id, now=now)


def _add_version(
    session: Session,
    model_id: str,
    *,
    number: int,
    patch_id: str | None,
    job_id: str | None,
    now: datetime,
) -> None:
    session.execute(
        insert(VersionRow).values(
            model_id=model_id,
            number=number,
            parent=number - 1 if number else None,
            patch_id=patch_id,
            job_id=job_id,
            created_at=now,
        )
    )


def _load(session: Session, model_id: str | None = None) -> list[Model]:
    latest = (
        select(func.max(VersionRow.number))
        .where(VersionRow.model_id == ModelRow.id)
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
