"""Ids that cannot be guessed: a prefix that says what it names, and 32 hexadecimal digits."""

from __future__ import annotations

import uuid


def new_job_id() -> str:
    """An id no other job has: ``job_`` and a random UUID in hex."""
    return f"job_{uuid.uuid4().hex}"


def new_patch_id() -> str:
    """An id no other patch has: ``pat_`` and a random UUID in hex."""
    return f"pat_{uuid.uuid4().hex}"


def new_webhook_id() -> str:
    """An id no other endpoint has: ``whk_`` and a random UUID in hex."""
    return f"whk_{uuid.uuid4().hex}"


def new_delivery_id() -> str:
    """An id no other message has: ``msg_`` and a random UUID in hex."""
    return f"msg_{uuid.uuid4().hex}"
