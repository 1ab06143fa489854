"""The text of an API key: how it looks, how a mistyped one is told, what is stored of it.

``rzr_`` + id (10) + secret (43) + checksum (6), 63 characters, all but the prefix base62. Secret
scanners find it by ``rzr_[0-9A-Za-z]{59}``, and the checksum (CRC-32 of id and secret) tells them
a key from anything else of that shape without asking us.

Stored is the SHA-256 of the whole text. A slow hash (bcrypt, Argon2) makes it costly to try the
few passwords that people choose; the secret here is 256 random bits, so there is nothing to try,
and a slow hash would only make every request slow. For the same reason there is no salt.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib
from typing import Final

PREFIX: Final = "rzr_"
_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_LENGTH: Final = 10
_SECRET_BITS: Final = 256
#: 62 ** 43 is the first power above 2 ** 256, and 62 ** 6 the first above 2 ** 32.
_SECRET_LENGTH: Final = 43
_CHECKSUM_LENGTH: Final = 6
_SHAPE: Final = re.compile(
    rf"{PREFIX}([0-9A-Za-z]{{{_ID_LENGTH}}})[0-9A-Za-z]{{{_SECRET_LENGTH + _CHECKSUM_LENGTH}}}"
)


def new() -> tuple[str, str]:
    """A fresh key's id, which is no secret, and its text, which is."""
    key_id = "".join(secrets.choice(_DIGITS) for _ in range(_ID_LENGTH))
    body = key_id + _base62(secrets.randbits(_SECRET_BITS), _SECRET_LENGTH)
    return key_id, f"{PREFIX}{body}{_checksum(body)}"


def id_in(text: str) -> str | None:
    """The id in a key's text; None when it is no key, or was mistyped."""
    found = _SHAPE.fullmatch(text)
    if found is None:
        return None
    body = text[len(PREFIX) : -_CHECKSUM_LENGTH]
    return found[1] if text[-_CHECKSUM_LENGTH:] == _checksum(body) else None


def digest(text: str) -> str:
    """What is stored of a key's text: lower-case hex SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    assert number == 0
    return "".join(reversed(digits))
