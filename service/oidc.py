"""Bearer tokens of an identity provider (OpenID Connect): checked with its published keys.

Checked are the signature, by an algorithm of the allow-list and a key that the provider publishes
for signing; ``iss``, ``aud``, ``exp`` and, where they are there, ``nbf`` and ``iat``. ``sub`` must
be there too. Symmetric algorithms and ``none`` are not in any allow-list: a public key is no
secret (RFC 8725, 3.1 and 3.2).
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Final

import jwt

from api_schemas.access import Scope
from registry.settings import Settings
from service import errors, logs
from service.callers import Caller

logger = logging.getLogger("razor.oidc")

_TIMEOUT_SECONDS: Final = 5.0
_MAX_JWKS_BYTES: Final = 2**20
#: How long keys count that could not be fetched again: a key that was withdrawn ends by then.
MAX_AGE_SECONDS: Final = 3600.0
#: After a fetch that failed.
_RETRY_SECONDS: Final = 10.0
_PUBLIC: Final = frozenset({"RSA", "EC", "OKP"})
_REQUIRED: Final = ("iss", "aud", "exp", "sub")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One published key. Of an algorithm that it names it is used for no other."""

    algorithm: str | None
    key: Any


class KeySet:
    """The provider's keys by id, fetched when first needed and again for an id that is unknown.

    Fetched at most once in ``refresh_seconds``, whatever ids strangers make up.
    """

    def __init__(
        self,
        source: str,
        refresh_seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._refresh_seconds = refresh_seconds
        self._clock = clock
        self._lock = Lock()
        self._keys: dict[str | None, PublicKey] = {}
        self._fetched: float | None = None
        self._not_before = float("-inf")

    def key(self, key_id: str | None) -> PublicKey | None:
        """The key of this id, None when the provider has none such.

        A token without an id is checked with the only key, if there is only one. Raises
        ``IdentityProviderUnavailable`` while there are no keys that are fresh enough.
        """
        with self._lock:
            found = self._find(key_id)
            due = found is None or self._age() > MAX_AGE_SECONDS / 2
            if due and self._clock() >= self._not_before:
                self._fetch()
                found = self._find(key_id)
            if self._age() > MAX_AGE_SECONDS:
                raise errors.IdentityProviderUnavailable
            return found

    def _find(self, key_id: str | None) -> PublicKey | None:
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id) if key_id is not None else None

    def _age(self) -> float:
        return float("inf") if self._fetched is None else self._clock() - self._fetched

    def _fetch(self) -> None:
        try:
            self._keys = _parsed(_read(self._source))
        except Exception as exc:  # Network, file, JSON, keys: all that matters is that it failed.
            self._not_before = self._clock() + min(_RETRY_SECONDS, self._refresh_seconds)
            logger.warning("no keys from the provider", extra={"error": logs.describe(exc)})
        else:
            self._fetched = self._clock()
            self._not_before = self._fetched + self._refresh_seconds


def _read(source: str) -> bytes:
    if "://" not in source:
        return Path(source).read_bytes()
    import httpx

    with (
        httpx.Client(timeout=_TIMEOUT_SECONDS, follow_redirects=False) as client,
        client.stream("GET", source, headers={"accept": "application/json"}) as response,
    ):
        response.raise_for_status()
        if response.is_redirect:
            raise ValueError("redirect")
        text = b""
        for chunk in response.iter_bytes():
            text += chunk
            if len(text) > _MAX_JWKS_BYTES:
                raise ValueError("too large")
    return text


def _parsed(text: bytes) -> dict[str | None, PublicKey]:
    """The public keys for signing. One that cannot be read does not take the others with it."""
    found: dict[str | None, PublicKey] = {}
    for fields in json.loads(text)["keys"]:
        if fields.get("kty") not in _PUBLIC or fields.get("use", "sig") != "sig":
            continue
        try:
            found[fields.get("kid")] = PublicKey(fields.get("alg"), jwt.PyJWK(fields).key)
        except jwt.PyJWTError:
            continue
    return found


class Provider:
    """One identity provider, as the settings name it."""

    def __init__(self, settings: Settings) -> None:
        assert settings.oidc_jwks is not None
        self._settings = settings
        self._keys = KeySet(settings.oidc_jwks, settings.oidc_refresh_seconds)

    def caller(self, token: str) -> Caller | None:
        """Whose token this is; None when anything about it is wrong.

        Whether there is such a tenant is not asked here. Raises ``IdentityProviderUnavailable``.
        """
        try:
            header = jwt.get_unverified_header(token)
            algorithm = header.get("alg")
            if algorithm not in self._settings.oidc_algorithms:
                return None
            found = self._keys.key(header.get("kid"))
            if found is None or found.algorithm not in (None, algorithm):
                return None
            claims = jwt.decode(
                token,
                found.key,
                algorithms=[algorithm],
                issuer=self._settings.oidc_issuer,
                audience=self._settings.oidc_audience,
                leeway=self._settings.oidc_leeway_seconds,
                options={"require": list(_REQUIRED), "enforce_minimum_key_length": True},
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            return None
        return self._from_claims(claims)

    def _from_claims(self, claims: Mapping[str, Any]) -> Caller | None:
        tenant = claims.get(self._settings.oidc_tenant_claim)
        scopes = claims.get(self._settings.oidc_scopes_claim, "")
        words = scopes.split() if isinstance(scopes, str) else scopes
        if not isinstance(tenant, str) or not isinstance(words, list):
            return None
        known = frozenset(scope for scope in Scope if scope.value in words)
        return Caller(tenant, principal(claims["iss"], claims["sub"]), known)


def principal(issuer: str, subject: str) -> str:
    """What rows and the log call the subject: the same for good, and no name or mail address."""
    digest = hashlib.sha256(f"{issuer}\n{subject}".encode()).hexdigest()
    return f"oidc:{digest[:32]}"
