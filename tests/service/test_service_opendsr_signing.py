"""The key: made once and guarded, or brought by the operator, or refused with a reason."""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtensionOID, NameOID
from fastapi.testclient import TestClient
from front_world import make_world
from opendsr_world import DOMAIN, verify
from pydantic import ValidationError

from registry.settings import Settings
from service.opendsr import signing
from service.opendsr.signing import Signer, UnusableKeyError

DATA = b'{"controller_id":"default"}'
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def certified(key: Key) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, DOMAIN)])
    begins = datetime.now(UTC) - timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=2))
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def written(key: Key, password: bytes | None = None) -> bytes:
    locked = serialization.BestAvailableEncryption(password) if password else None
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        locked or serialization.NoEncryption(),
    )


def brought(folder: Path, key: bytes, certificate: bytes) -> Settings:
    files = {"opendsr_key_file": key, "opendsr_certificate_file": certificate}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    paths = {name: folder / name for name in files}
    return Settings(data_folder=folder / "data", opendsr_domain=DOMAIN, **paths)


def certificate_of(signer: Signer) -> x509.Certificate:
    return x509.load_pem_x509_certificate(signer.certificate())


def test_a_key_is_made_once_for_everybody_on_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert signing._OWN_RSA_BITS > 2048
    monkeypatch.setattr(signing, "_OWN_RSA_BITS", 2048)  # four of them are made, which takes time
    settings = Settings(data_folder=tmp_path, opendsr_domain=DOMAIN)
    signers = [Signer(settings) for _ in range(3)]
    certificates: list[bytes] = []
    threads = [
        threading.Thread(target=lambda one=one: certificates.append(one.certificate()))
        for one in signers
    ]
    assert list(tmp_path.iterdir()) == []  # nothing before it is asked for
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(certificates) == 3
    assert len(set(certificates)) == 1
    (file,) = (tmp_path / "opendsr").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert b"PRIVATE KEY" in file.read_bytes()
    assert b"PRIVATE KEY" not in certificates[0]
    made = x509.load_pem_x509_certificate(certificates[0])
    key = made.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert key.key_size >= 2048
    names = made.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    assert isinstance(names, x509.SubjectAlternativeName)
    assert names.get_values_for_type(x509.DNSName) == [DOMAIN]
    signatures = {one.sign(DATA) for one in signers}
    assert len(signatures) == 1
    verify(made, signatures.pop(), DATA)
    # Another name is another certificate.
    other = Signer(Settings(data_folder=tmp_path, opendsr_domain="other.example"))
    with pytest.raises(InvalidSignature):
        verify(made, other.sign(DATA), DATA)


@pytest.mark.parametrize(
    "make",
    [
        lambda: rsa.generate_private_key(65537, 2048),
        lambda: ec.generate_private_key(ec.SECP256R1()),
    ],
    ids=["rsa", "p-256"],
)
def test_an_operators_key_signs_the_same_bytes_the_same_way(
    tmp_path: Path, make: Callable[[], Key]
) -> None:
    key, issuer = make(), ec.generate_private_key(ec.SECP256R1())
    chain = certified(key) + certified(issuer)
    settings = brought(tmp_path, written(key), chain)
    signer = Signer(settings)
    assert signer.certificate() == chain
    signature = signer.sign(DATA)
    assert Signer(settings).sign(DATA) == signature
    assert "\n" not in signature
    verify(certificate_of(signer), signature, DATA)
    with pytest.raises(InvalidSignature):
        verify(certificate_of(signer), signature, DATA + b" ")
    assert not (tmp_path / "data").exists()


_P256 = ec.generate_private_key(ec.SECP256R1())
_P384 = ec.generate_private_key(ec.SECP384R1())
_ED = ed25519.Ed25519PrivateKey.generate()
_WEAK = rsa.generate_private_key(65537, 1024)


@pytest.mark.parametrize(
    ("key", "certificate", "code"),
    [
        (written(_P384), certified(_P384), "unsupported_key"),
        (written(_ED), certified(_ED), "unsupported_key"),
        (written(_WEAK), certified(_WEAK), "unsupported_key"),
        (written(_P256), certified(_P384), "certificate_of_another_key"),
        (written(_P256, b"locked"), certified(_P256), "unreadable_pem"),
        (b"", certified(_P256), "unreadable_pem"),
        (written(_P256), b"", "unreadable_pem"),
        (certified(_P256), written(_P256), "unreadable_pem"),
    ],
    ids=["p-384", "ed25519", "short", "another", "locked", "no-key", "no-certificate", "swapped"],
)
def test_what_cannot_sign_is_refused_with_its_reason(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    key: bytes,
    certificate: bytes,
    code: str,
) -> None:
    settings = brought(tmp_path, key, certificate)
    with pytest.raises(UnusableKeyError) as caught:
        Signer(settings).sign(DATA)
    assert caught.value.code == code
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    (line,) = caplog.records
    assert line.__dict__["code"] == code
    assert "BEGIN" not in caplog.text


def test_files_that_are_not_there_stop_the_start(tmp_path: Path) -> None:
    missing = {"opendsr_key_file": tmp_path / "a", "opendsr_certificate_file": tmp_path / "b"}
    made = make_world(tmp_path, **missing)
    with pytest.raises(UnusableKeyError, match="unreadable_file"), TestClient(made.app):
        pass
    made.parts.database.close()


def test_one_file_without_the_other_is_no_setting(tmp_path: Path) -> None:
    for name in ("opendsr_key_file", "opendsr_certificate_file"):
        with pytest.raises(ValidationError, match="set both"):
            Settings(data_folder=tmp_path, **{name: tmp_path / "x.pem"})


@pytest.mark.parametrize("domain", ["", "UPPER.example", "a b", "../x", "x/y", "-x.example", "x:1"])
def test_what_is_no_domain_is_no_setting(tmp_path: Path, domain: str) -> None:
    with pytest.raises(ValidationError):
        Settings(data_folder=tmp_path, opendsr_domain=domain)
    assert Settings(data_folder=tmp_path, opendsr_domain="a-1.b.example").opendsr_domain
