"""The key, and what it signs: one form each, and nothing else passes."""

from __future__ import annotations

import subprocess
import threading
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from evidence import checkpoints, keys, limits, statements
from evidence.checkpoints import Checkpoint
from evidence.errors import EvidenceError, KeyUnusable, Malformed, SignatureInvalid
from razor import gate


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> keys.SigningKey:
    return keys.load_or_create(tmp_path_factory.mktemp("keys") / "folder" / "evidence.pem")


def test_the_key_is_made_once_and_for_nobody_else(key: keys.SigningKey) -> None:
    assert key.path.stat().st_mode & 0o777 == 0o600
    assert keys.load_or_create(key.path).public == key.public
    assert list(key.path.parent.iterdir()) == [key.path]
    assert keys.read_public(key.public.pem) == key.public
    assert "PRIVATE" not in repr(key)


def test_processes_that_ask_at_once_get_one_key(tmp_path: Path) -> None:
    found: list[keys.SigningKey] = []
    barrier = threading.Barrier(4)

    def ask() -> None:
        barrier.wait()
        found.append(keys.load_or_create(tmp_path / "evidence.pem"))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.public.id for one in found}) == 1
    assert len(found) == 4


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    made = keys.load_or_create(tmp_path / "evidence.pem")
    made.path.chmod(0o640)
    with pytest.raises(KeyUnusable, match="chmod 600"):
        keys.load_or_create(made.path)


def test_only_keys_on_p256_are_taken(tmp_path: Path) -> None:
    others = [ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()]
    path = tmp_path / "evidence.pem"
    for other in others:
        pem = other.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        path.write_bytes(pem)
        path.chmod(0o600)
        with pytest.raises(KeyUnusable):
            keys.load(path)
        public = other.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        with pytest.raises(KeyUnusable):
            keys.read_public(public)
    path.write_bytes(b"no key")
    with pytest.raises(KeyUnusable):
        keys.load(path)
    with pytest.raises(KeyUnusable):
        keys.read_public(b"no key")


def test_the_keys_id_is_what_openssl_computes(key: keys.SigningKey, tmp_path: Path) -> None:
    pem = tmp_path / "key.pem"
    pem.write_bytes(key.public.pem)
    command = f"openssl pkey -pubin -in {pem} -outform DER | openssl dgst -sha256 -hex"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert key.public.id in done.stdout


HEAD = Checkpoint("razor-audit", 17, bytes(range(32)))


def test_a_checkpoint_is_a_signed_note(key: keys.SigningKey) -> None:
    note = checkpoints.sign(HEAD, key)
    root = b64encode(HEAD.root).decode()
    assert note.startswith(f"razor-audit\n17\n{root}\n\n— razor-audit ")
    assert note.endswith("\n")
    signature = b64decode(note.splitlines()[-1].rpartition(" ")[2])
    assert signature[:4].hex() == key.public.id[:8]
    key.public.check(signature[4:], HEAD.body().encode(), what="it")
    assert checkpoints.read(note.encode(), key.public) == HEAD


def test_a_checkpoint_that_was_touched_is_none(key: keys.SigningKey, tmp_path: Path) -> None:
    note = checkpoints.sign(HEAD, key).encode()
    for place in range(len(note)):
        changed = bytearray(note)
        changed[place] ^= 1
        with pytest.raises(EvidenceError):
            checkpoints.read(bytes(changed), key.public)
    for wrong in (b"", note + b"\n", note[:-1], note.replace(b"\n17", b"\n017"), b"\n" + note):
        with pytest.raises(Malformed):
            checkpoints.read(wrong, key.public)
    other = keys.load_or_create(tmp_path / "other.pem")
    with pytest.raises(SignatureInvalid):
        checkpoints.read(note, other.public)


@pytest.mark.parametrize("origin", ["", "two words", "a+b", "line\nbreak"])
def test_a_log_needs_a_name_that_a_note_can_carry(key: keys.SigningKey, origin: str) -> None:
    with pytest.raises(Malformed):
        checkpoints.sign(Checkpoint(origin, 1, bytes(32)), key)


STATEMENT = statements.Statement({"b": "1" * 64, "a": "0" * 64}, "urn:x", {"é": [1.5, None]})


def test_a_statement_comes_back_as_signed(key: keys.SigningKey) -> None:
    raw = statements.sign(STATEMENT, key)
    assert statements.read(raw, key.public, what="it") == STATEMENT


def test_a_statement_has_one_form(key: keys.SigningKey, tmp_path: Path) -> None:
    raw = statements.sign(STATEMENT, key)
    other = keys.load_or_create(tmp_path / "other.pem")
    with pytest.raises(SignatureInvalid):
        statements.read(raw, other.public, what="it")
    for wrong in (raw + b" ", raw.replace(b"\n", b""), b"{}", b"[]", b"\xff", b"[" * 100_000):
        with pytest.raises(Malformed):
            statements.read(wrong, key.public, what="it")
    # Rightly signed, but no statement, or another one's payload type.
    for payload_type, payload in (("application/json", STATEMENT.payload()), (None, b"{}")):
        kind = payload_type or statements.PAYLOAD_TYPE
        with pytest.raises(Malformed):
            statements.read(_envelope(key, kind, payload), key.public, what="it")
    again = _envelope(key, statements.PAYLOAD_TYPE, STATEMENT.payload())
    assert statements.read(again, key.public, what="it") == STATEMENT  # the control


def _envelope(key: keys.SigningKey, kind: str, payload: bytes) -> bytes:
    """DSSE by its specification, without the library."""
    pae = b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)
    signature = {"keyid": key.public.id, "sig": b64encode(key.sign(pae)).decode()}
    return statements.canonical_json(
        {
            "payload": b64encode(payload).decode(),
            "payloadType": kind,
            "signatures": [signature],
        }
    )


def test_limits_know_every_figure_that_the_gate_asks_for() -> None:
    """A figure that the gate can judge is missed where it was not measured."""
    known = {metric for metrics in limits.GATED.values() for metric in metrics}
    judged = {rule.metric for rule in gate._rules(_thresholds())}
    assert {metric for metric in judged if not metric.endswith("_earlier")} == known


def _thresholds() -> object:
    from api_schemas.shelf import GateThresholds

    return GateThresholds()
