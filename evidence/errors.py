"""Why evidence does not hold.

EvidenceError
├── ProofInvalid        the log's hashes do not lead from one to the other
├── SignatureInvalid    not signed by this key, or changed since
├── Malformed           a file is not in the form that docs/evidence.md gives
├── Disagreement        two files say different things
└── KeyUnusable         a key cannot be read, or others may read it
"""

from __future__ import annotations


class EvidenceError(Exception):
    """The evidence does not hold."""


class ProofInvalid(EvidenceError):
    """The hashes do not lead to the root: the line, the proof or the checkpoint was changed."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; the line, the proof or the checkpoint was changed")


class SignatureInvalid(EvidenceError):
    """The signature is not one of this key over these bytes."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} was changed after signing, or signed with another key")
        self.what = what


class Malformed(EvidenceError):
    """A file is not in the one form it may have."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what}: {reason}")
        self.what = what
        self.reason = reason


class Disagreement(EvidenceError):
    """Two files of one folder say different things."""

    def __init__(self, one: str, other: str, field: str) -> None:
        super().__init__(f"{one} and {other} disagree on {field}; they are not of one request")
        self.field = field


class KeyUnusable(EvidenceError):
    """The key cannot be used; the message says why."""
