"""The facade's key and certificate, and the signatures made with them.

RSA of 2048 bits and more (PKCS #1 v1.5) or ECDSA on P-256, each over SHA-256, as FIPS 186-4 has
them. An operator brings both files; without them a key and a certificate that nobody else has
signed are made on first use, which is enough to try the facade out.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import tempfile
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from registry.settings import Settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.x509 import Certificate

    PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey

logger = logging.getLogger("razor.opendsr")

LEAST_RSA_BITS: Final = 2048
#: As strong as P-256, and known to every verifier.
_OWN_RSA_BITS: Final = 3072
_OWN_YEARS: Final = 10
#: A certificate that begins now has not begun for a clock that is a little behind.
_CLOCK_MARGIN: Final = timedelta(days=1)
_LONGEST_COMMON_NAME: Final = 64


class UnusableKeyError(Exception):
    """The key or the certificate cannot be used; the code says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class _Identity:
    key: PrivateKey = field(repr=False)
    certificate: bytes


class Signer:
    """Signs with one key for as long as the process lives; read, or made, when first asked.

    Deterministic: the same bytes get the same signature from the same key. Several processes on
    one data folder come to one key. Threads may share it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._identity: _Identity | None = None

    def sign(self, data: bytes) -> str:
        """The signature of these bytes in base64; ECDSA's in DER. Raises ``UnusableKeyError``."""
        # Only here: the front starts sooner, and most fronts sign nothing.
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

        key = self._loaded().key
        if isinstance(key, rsa.RSAPrivateKey):
            signature = key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        else:
            # RFC 6979: verified as every other, and the same again for the same answer.
            signature = key.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        return base64.b64encode(signature).decode()

    def certificate(self) -> bytes:
        """The certificate, with the chain that the operator gave, in PEM."""
        return self._loaded().certificate

    def _loaded(self) -> _Identity:
        with self._lock:
            if self._identity is None:
                try:
                    self._identity = self._load()
                except UnusableKeyError as exc:
                    logger.error("key or certificate cannot be used", extra={"code": exc.code})
                    raise
            return self._identity

    def _load(self) -> _Identity:
        settings = self._settings
        key_file, certificate_file = settings.opendsr_key_file, settings.opendsr_certificate_file
        if key_file is None or certificate_file is None:
            key_file = certificate_file = _made(
                settings.data_folder / "opendsr", settings.opendsr_domain
            )
        try:
            key, certificates = key_file.read_bytes(), certificate_file.read_bytes()
        except OSError:
            raise UnusableKeyError("unreadable_file") from None
        return _checked(key, certificates)


def _checked(key_pem: bytes, certificates_pem: bytes) -> _Identity:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
        certificates = x509.load_pem_x509_certificates(certificates_pem)
    except (ValueError, TypeError):
        # Never chained: a parser's message may quote what it read.
        raise UnusableKeyError("unreadable_pem") from None
    usable = _usable(key)
    if usable.public_key() != certificates[0].public_key():
        raise UnusableKeyError("certificate_of_another_key")
    # Written anew: the file may hold the key as well.
    return _Identity(usable, b"".join(_pem(certificate) for certificate in certificates))


def _usable(key: object) -> PrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= LEAST_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise UnusableKeyError("unsupported_key")


def _made(folder: Path, domain: str) -> Path:
    """One file with a key and its certificate; of two processes that make it, one wins."""
    file = folder / f"{domain}.pem"
    if file.exists():
        return file
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Readable by its owner only from its first byte on.
    handle, name = tempfile.mkstemp(dir=folder, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as written:
            written.write(_new(domain))
            written.flush()
            os.fsync(written.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(name, file)
    finally:
        os.unlink(name)
    return file


def _new(domain: str) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import NameOID

    key = rsa.generate_private_key(public_exponent=65537, key_size=_OWN_RSA_BITS)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, domain[:_LONGEST_COMMON_NAME])])
    begins = datetime.now(UTC) - _CLOCK_MARGIN
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=365 * _OWN_YEARS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(domain)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private + _pem(certificate)


def _pem(certificate: Certificate) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return certificate.public_bytes(serialization.Encoding.PEM)
