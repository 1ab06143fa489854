"""The service's one signing key, ECDSA on P-256, and its public half.

One kind of key, because OpenSSF Model Signing takes elliptic curves only
(docs/decisions/0009-evidence.md). The private half is a PEM file that nobody else may read.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from evidence.errors import KeyUnusable, SignatureInvalid

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

_MAX_PEM_BYTES: Final = 4096
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What an auditor holds. ``id`` is the sha256 of its SubjectPublicKeyInfo in DER, in hex."""

    pem: bytes
    id: str
    key: ec.EllipticCurvePublicKey = field(repr=False, compare=False)

    def check(self, signature: bytes, data: bytes, *, what: str) -> None:
        """Pass if ``signature`` (DER) is this key's over ``data``; else SignatureInvalid."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        try:
            self.key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature as error:
            raise SignatureInvalid(what) from error


@dataclass(frozen=True, slots=True)
class SigningKey:
    """What only the service holds; ``path`` is its file, for the library that reads it there."""

    path: Path
    public: PublicKey
    key: ec.EllipticCurvePrivateKey = field(repr=False, compare=False)

    def sign(self, data: bytes) -> bytes:
        """An ECDSA signature with SHA-256 over ``data``, in DER."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        return self.key.sign(data, ec.ECDSA(hashes.SHA256()))


def read_public(pem: bytes) -> PublicKey:
    """The key in a PEM file of the one form that we write. Raises KeyUnusable."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_public_key(pem[:_MAX_PEM_BYTES])
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyUnusable("the public key cannot be read; fetch it again") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KeyUnusable("the public key is not one on the curve P-256; fetch it again")
    public = _public(key)
    if public.pem != pem.replace(b"\r\n", b"\n"):
        raise KeyUnusable("the public key's file holds more than the key; fetch it again")
    return public


def load_or_create(path: Path) -> SigningKey:
    """The key in ``path``; made on first use, mode 0600, one for all processes that ask at once.

    Raises KeyUnusable when others may read the file, or it holds no such key.
    """
    if not path.exists():
        _create(path)
    return load(path)


def load(path: Path) -> SigningKey:
    """The key in ``path``. Raises KeyUnusable, OSError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if path.stat().st_mode & _OTHERS:
        raise KeyUnusable("others may read the signing key; run: chmod 600 on its file")
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyUnusable("the signing key's file holds no PEM key without a password") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KeyUnusable("the signing key is not one on the curve P-256")
    return SigningKey(path, _public(key.public_key()), key)


def _create(path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # mkstemp gives 0600. A link, unlike a rename, never replaces the key of a faster process.
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(name, path)
        except FileExistsError:
            return
    finally:
        os.unlink(name)


def _public(key: ec.EllipticCurvePublicKey) -> PublicKey:
    from cryptography.hazmat.primitives import serialization

    form = serialization.PublicFormat.SubjectPublicKeyInfo
    pem = key.public_bytes(serialization.Encoding.PEM, form)
    der = key.public_bytes(serialization.Encoding.DER, form)
    return PublicKey(pem, hashlib.sha256(der).hexdigest(), key)
