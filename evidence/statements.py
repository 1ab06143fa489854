"""Signed statements: an in-toto Statement v1 in a DSSE envelope, in one form to the byte."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from evidence.errors import Malformed, SignatureInvalid
from evidence.keys import PublicKey, SigningKey
from patches.folder import canonical_json

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"


@dataclass(frozen=True, slots=True)
class Statement:
    """Something said (``predicate``) about files: ``subjects`` are their sha256 by name."""

    subjects: Mapping[str, str]
    predicate_type: str
    predicate: Mapping[str, Any]

    def payload(self) -> bytes:
        """The statement as JSON: sorted keys, two spaces, a newline at the end."""
        return canonical_json(
            {
                "_type": STATEMENT_TYPE,
                "subject": [
                    {"name": name, "digest": {"sha256": digest}}
                    for name, digest in sorted(self.subjects.items())
                ],
                "predicateType": self.predicate_type,
                "predicate": self.predicate,
            }
        )


def sign(statement: Statement, key: SigningKey) -> bytes:
    """The envelope's bytes. The key's id is in it, for finding the key, not for trusting it."""
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner, SSlibKey

    public = SSlibKey.from_crypto(key.public.key, keyid=key.public.id)
    envelope = Envelope(statement.payload(), PAYLOAD_TYPE, {})
    envelope.sign(CryptoSigner(key.key, public))
    return canonical_json(envelope.to_dict())


def read(raw: bytes, key: PublicKey, *, what: str) -> Statement:
    """The statement in an envelope that this key signed. Raises Malformed, SignatureInvalid.

    Exactly the bytes that ``sign`` wrote: base64 and JSON allow others that mean the same.
    """
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import FormatError, VerificationError
    from securesystemslib.signer import SSlibKey

    try:
        envelope = Envelope.from_dict(json.loads(raw))
        if canonical_json(envelope.to_dict()) != raw or envelope.payload_type != PAYLOAD_TYPE:
            raise Malformed(what, "it is not in the one form of an envelope")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, FormatError) as error:
        raise Malformed(what, "it is no signed envelope") from error
    try:
        envelope.verify([SSlibKey.from_crypto(key.key, keyid=key.id)], threshold=1)
    except VerificationError as error:
        raise SignatureInvalid(what) from error
    if len(envelope.signatures) != 1:
        raise Malformed(what, "it has signatures of others besides")
    return _statement(envelope.payload, what)


def _statement(payload: bytes, what: str) -> Statement:
    try:
        document = json.loads(payload)
        if document["_type"] != STATEMENT_TYPE:
            raise Malformed(what, "it is no in-toto statement of version 1")
        subjects = {entry["name"]: entry["digest"]["sha256"] for entry in document["subject"]}
        found = Statement(subjects, document["predicateType"], document["predicate"])
        if found.payload() != payload:
            raise Malformed(what, "its statement is not in its one form")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Malformed(what, "it is no statement") from error
    return found
