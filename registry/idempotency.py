"""Idempotency keys: a request that is sent twice is accepted once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from registry.errors import IdempotencyConflict
from registry.inserts import insert_if_absent
from registry.installation import Keys
from registry.tables import IdempotencyRow

#: A digest without a key: 64 hex digits. A keyed one is longer by its prefix.
_PLAIN_DIGITS: Final = 64


@dataclass(frozen=True, slots=True)
class Key:
    """What the client sent (``key``, for ``route``) and a digest of what it asked for.

    The digest is a keyed one (``Keys.fingerprint``): a plain one could be guessed from a name.
    A key counts within one tenant, principal and route. Each field holds at most 255 characters.
    """

    route: str
    key: str
    fingerprint: str


def lookup(session: Session, *, tenant: str, principal: str, key: Key) -> str | None:
    """The id of the job that this key already made, or None.

    Raises ``IdempotencyConflict`` when the key was used with another fingerprint.
    """
    found = session.execute(
        select(IdempotencyRow.job_id, IdempotencyRow.fingerprint).where(
            IdempotencyRow.tenant == tenant,
            IdempotencyRow.principal == principal,
            IdempotencyRow.route == key.route,
            IdempotencyRow.key == key.key,
        )
    ).first()
    if found is None:
        return None
    if found.fingerprint != key.fingerprint:
        raise IdempotencyConflict(found.job_id)
    return str(found.job_id)


def reserve(
    session: Session, *, tenant: str, principal: str, key: Key, job_id: str, now: datetime
) -> str:
    """The id of the one job this key makes: ``job_id``, or that of the request that came first.

    Of two requests at the same moment one waits for the other's commit and then gets its job.
    Raises ``IdempotencyConflict`` when the other request was a different one.
    """
    values = {
        "tenant": tenant,
        "principal": principal,
        "route": key.route,
        "key": key.key,
        "fingerprint": key.fingerprint,
        "job_id": job_id,
        "created_at": now,
    }
    if insert_if_absent(session, IdempotencyRow, values):
        return job_id
    first = lookup(session, tenant=tenant, principal=principal, key=key)
    assert first is not None, "a key that could not be reserved belongs to a job"
    return first


def key_old_fingerprints(session: Session, keys: Keys) -> None:
    """Fingerprints of before are keyed like those of today, so that their replays still work."""
    old = session.execute(
        select(IdempotencyRow).where(func.length(IdempotencyRow.fingerprint) == _PLAIN_DIGITS)
    ).scalars()
    for row in old:
        row.fingerprint = keys.fingerprint(row.fingerprint)
