"""The installation's key: names are hashed under it, and the jobs' data keys are wrapped with it.

One file holds 32 random bytes in hex. Every process of an installation reads the same one. From it
come four keys that have nothing to do with each other, so that no digest can stand for another:

==============  =====================================================================
``wrap``        seals the data key of each job
``subject``     names a person within one tenant, in job, audit log and certificate
``mark``        finds a name again in the labels of a retain set, whoever asked
``fingerprint`` tells whether two requests under one Idempotency-Key are the same
==============  =====================================================================

Who has the file can test a guess against the digests; who has only the digests cannot.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
import tempfile
from pathlib import Path
from typing import Final

from api_schemas.concepts import plain
from registry.errors import KeyFileInvalid, SealBroken

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12  # NIST SP 800-38D, 8.2.2: drawn at random for each message
#: Begins every keyed fingerprint; what has no such beginning was written before they were keyed.
FINGERPRINT_PREFIX: Final = "k1:"


class Keys:
    """What an installation can hash and wrap. Its repr shows nothing.

    Laws: every digest is a function of its inputs and the file alone, so it is the same in each
    process and after each restart; spellings of one name (Unicode form, case, spaces) are one name.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise ValueError(f"an installation's key has {KEY_BYTES} bytes, not {len(secret)}")
        self._wrap, self._subject, self._mark, self._fingerprint = (
            hmac.digest(secret, f"razor {purpose} v1".encode(), "sha256")
            for purpose in ("wrap", "subject", "mark", "fingerprint")
        )

    def __repr__(self) -> str:
        return "Keys()"

    def subject(self, tenant: str, name: str) -> str:
        """Names who bears ``name`` within ``tenant``: 64 hex digits, others in each tenant."""
        owner = tenant.encode()
        content = len(owner).to_bytes(4, "big") + owner + plain(name).encode()
        return hmac.digest(self._subject, content, "sha256").hex()

    def mark(self, name: str) -> str:
        """Names ``name`` within the installation: 64 hex digits, the same for every tenant.

        Never shown: it only says which retain examples speak of somebody who was forgotten.
        """
        return hmac.digest(self._mark, plain(name).encode(), "sha256").hex()

    def fingerprint(self, digest: str) -> str:
        """The keyed form of a request's digest, which alone could be guessed from a name."""
        keyed = hmac.digest(self._fingerprint, digest.encode(), "sha256").hex()
        return FINGERPRINT_PREFIX + keyed

    def wrap(self, data_key: bytes, job_id: str) -> bytes:
        """The job's data key, sealed; it opens for that job alone."""
        return seal(self._wrap, data_key, job_id.encode())

    def unwrap(self, wrapped: bytes, job_id: str) -> bytes:
        """The job's data key. Raises ``SealBroken``, also where another installation wrapped it."""
        return unseal(self._wrap, wrapped, job_id.encode())


def load(path: Path) -> Keys:
    """The keys of this file, which is made if there is none; safe in many processes at once.

    Raises ``KeyFileInvalid`` when the file holds something else, or others may read it.
    """
    try:
        text = _read(path)
    except FileNotFoundError:
        _make(path)
        text = _read(path)
    try:
        return Keys(bytes.fromhex(text))
    except ValueError:
        raise KeyFileInvalid(path) from None


def seal(key: bytes, data: bytes, purpose: bytes) -> bytes:
    """The data under AES-256-GCM, after its random nonce; it opens for this purpose alone."""
    # Here, because a process that seals nothing starts a tenth of a second sooner.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, data, purpose)


def unseal(key: bytes, sealed: bytes, purpose: bytes) -> bytes:
    """What was sealed. Raises ``SealBroken`` for another key or purpose, or one changed bit."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], purpose)
    except (InvalidTag, ValueError):
        raise SealBroken from None


def _read(path: Path) -> str:
    with path.open(encoding="ascii", errors="replace") as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            raise KeyFileInvalid(path)
        return file.read(4 * KEY_BYTES).strip()


def _make(path: Path) -> None:
    """A new key is on the disk under ``path``, or the one that another process made first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".key-", dir=path.parent)  # mode 0600
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return
    finally:
        temporary.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
