"""Entity tags: made from digests, compared as RFC 9110 says."""

from __future__ import annotations

import hashlib


def strong(digest: str) -> str:
    """The strong entity tag of the bytes with this digest."""
    return f'"{digest}"'


def of_body(body: bytes) -> str:
    """The strong entity tag of this body."""
    return strong(hashlib.sha256(body).hexdigest())


def none_match_fails(header: str | None, etag: str) -> bool:
    """Whether ``If-None-Match`` names this tag, so that the answer is 304 (weak comparison)."""
    if header is None:
        return False
    named = {tag.strip().removeprefix("W/") for tag in header.split(",")}
    return "*" in named or etag in named
