"""Secrets at rest: the database has them sealed, a file beside it has the key.

A copy of the database alone, a backup or a dump, signs nothing. Fronts on several machines share
the key file.
"""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from pathlib import Path


class UnreadableSecret(Exception):
    """The key file is not the one that sealed this; restore it, or rotate the secret."""

    def __str__(self) -> str:
        return type(self).__doc__ or ""


class Sealer:
    """Seals and opens with the key in ``path``, which is made (mode 0600) when first needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._key: bytes | None = None

    def seal(self, secret: str) -> str:
        """The secret as only this key opens it. Raises ``OSError`` if there can be no key file."""
        from cryptography.fernet import Fernet

        return Fernet(self._read(make=True)).encrypt(secret.encode()).decode()

    def open(self, sealed: str) -> str:
        """The secret. Raises ``UnreadableSecret``."""
        from cryptography.fernet import Fernet, InvalidToken

        try:
            return Fernet(self._read(make=False)).decrypt(sealed.encode()).decode()
        except (InvalidToken, OSError, ValueError):
            raise UnreadableSecret from None

    def _read(self, *, make: bool) -> bytes:
        with self._lock:
            if self._key is None:
                if make and not self._path.exists():
                    _make(self._path)
                self._key = self._path.read_bytes().strip()
            return self._key


def _make(path: Path) -> None:
    """A new key is at ``path``, whole; another process's that came first stays."""
    from cryptography.fernet import Fernet

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(Fernet.generate_key())
            file.flush()
            os.fsync(file.fileno())
        # A link, not a rename: it never replaces a key that has sealed something.
        with contextlib.suppress(FileExistsError):
            os.link(part, path)
    finally:
        part.unlink()
