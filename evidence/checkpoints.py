"""Checkpoints: the log's size and tree head, signed, as text (C2SP tlog-checkpoint, signed-note).

::

    razor-audit
    17
    <root in base64>

    — razor-audit <base64 of: first 4 bytes of the key's id, then the ECDSA signature in DER>

What is signed are the three lines with their line ends. The key's four bytes are those that
signed notes with ECDSA keys carry: of the sha256 over the SubjectPublicKeyInfo.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Final

from evidence.errors import Malformed, SignatureInvalid
from evidence.keys import PublicKey, SigningKey

WHAT: Final = "the checkpoint"
_NOTE: Final = re.compile(
    r"(?P<body>(?P<origin>[^\s+]{1,200})\n(?P<size>0|[1-9]\d{0,17})\n(?P<root>[A-Za-z0-9+/]{43}=)\n)"
    r"\n— (?P<name>[^\s+]{1,200}) (?P<signature>[A-Za-z0-9+/]{1,400}={0,2})\n"
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The log ``origin`` had ``size`` lines, with this tree head."""

    origin: str
    size: int
    root: bytes

    def body(self) -> str:
        """The three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"


def sign(checkpoint: Checkpoint, key: SigningKey) -> str:
    """The checkpoint as a signed note. Raises Malformed for an origin that no note can carry."""
    body = checkpoint.body()
    signature = bytes.fromhex(key.public.id)[:4] + key.sign(body.encode())
    note = f"{body}\n— {checkpoint.origin} {b64encode(signature).decode()}\n"
    if not _NOTE.fullmatch(note):
        raise Malformed(WHAT, "the log's name must be one word without a plus sign")
    return note


def read(note: bytes, key: PublicKey) -> Checkpoint:
    """The checkpoint in a note that this key signed. Raises Malformed, SignatureInvalid."""
    try:
        found = _NOTE.fullmatch(note.decode())
    except UnicodeDecodeError:
        found = None
    if found is None or found["name"] != found["origin"]:
        raise Malformed(WHAT, "it is no signed note with a log's name, size and root")
    root, signature = _plain(found["root"]), _plain(found["signature"])
    if signature[:4] != bytes.fromhex(key.id)[:4]:
        raise SignatureInvalid(WHAT)
    key.check(signature[4:], found["body"].encode(), what=WHAT)
    return Checkpoint(found["origin"], int(found["size"]), root)


def _plain(text: str) -> bytes:
    """Base64 in its one form: no stray bits after the last byte."""
    try:
        data = b64decode(text, validate=True)
    except binascii.Error as error:
        raise Malformed(WHAT, "its base64 is broken") from error
    if b64encode(data).decode() != text:
        raise Malformed(WHAT, "its base64 is not in its one form")
    return data
