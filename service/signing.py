"""The service's signing key and what it signs of the log; evidence is made with it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from registry import audit
from service import errors
from service.parts import Parts

if TYPE_CHECKING:
    from evidence.keys import SigningKey


def key(parts: Parts) -> SigningKey:
    """The signing key, made on first use. Raises ``SigningKeyUnusable``."""
    return _loaded(parts.settings.evidence_key)


@functools.lru_cache(maxsize=8)
def _loaded(path: Path) -> SigningKey:
    # Imported here: a front that nobody asks for evidence starts without the library.
    from evidence import keys
    from evidence.errors import KeyUnusable

    try:
        return keys.load_or_create(path)
    except (KeyUnusable, OSError) as exc:
        raise errors.SigningKeyUnusable from exc


def checkpoint(parts: Parts, session: Session) -> tuple[str, int]:
    """A signed checkpoint of the log as the transaction sees it, and its size."""
    from evidence import checkpoints

    size = audit.size(session)
    head = checkpoints.Checkpoint(parts.settings.audit_origin, size, audit.root(session, size))
    return checkpoints.sign(head, key(parts)), size
