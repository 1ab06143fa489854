"""The door: a bearer token becomes a caller, or one of three refusals.

A key costs one look-up in the database a second, however many requests it comes with, and no write
but for one a minute that remembers its last use. A token of an identity provider costs one
signature and one look-up of its tenant, as often.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from datetime import UTC, datetime
from ipaddress import IPv6Address, ip_address
from threading import Lock
from typing import TYPE_CHECKING, Final

from api_schemas.tenants import TenantSettings
from registry import key_texts, keys, tenants
from registry.database import Database
from registry.errors import TenantNotFound
from registry.settings import Settings
from service import errors
from service.buckets import Buckets
from service.callers import Caller

if TYPE_CHECKING:
    from service.oidc import Provider

CHALLENGE: Final = 'Bearer realm="razor"'
#: No key is longer, and no token of a sane provider.
_MAX_TOKEN_LENGTH: Final = 8192
_MAX_KNOWN: Final = 10_000
#: For how long a token that was admitted is not looked up again: a revoked key lives on that long.
RECENT_SECONDS: Final = 1.0


class Guard:
    """Admits callers; shared by a front's threads.

    Wrong tokens are slowed down by address: after ``auth_failures_per_minute`` of them, an address
    gets 429 for every token that this front has not admitted before, right or wrong, so an answer
    tells a guesser nothing. Callers at work behind the same proxy go on.

    Both limits count in this process's memory: n fronts together allow up to n times as much, and
    a restart begins anew. That is enough against a client that runs wild and against guessing
    (256 random bits need no help); it is no billing. Quotas of jobs are counted in the database
    and are exact.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._failures_per_minute = settings.auth_failures_per_minute
        self._failures = Buckets()
        self._requests = Buckets()
        self._touches = Buckets()
        self._known = _Known()
        self._provider = _provider(settings)

    def admit(self, token: str, address: str) -> Caller:
        """Whoever holds this token.

        Raises ``Unauthenticated``: one answer for a token that is missing, garbled, unknown,
        expired or revoked; ``RateLimited``; ``IdentityProviderUnavailable``.
        """
        if not token:
            raise _unauthenticated()
        fingerprint = hashlib.sha256(token.encode()).digest()
        network = _network(address)
        if fingerprint not in self._known:
            wait = self._failures.wait_seconds(network, self._failures_per_minute)
            if wait:
                raise _rate_limited(wait)
        try:
            caller, settings = self._holder(token)
        except errors.Unauthenticated:
            self._known.forget(fingerprint)
            self._failures.take(network, self._failures_per_minute)
            raise
        self._known.add(fingerprint, caller, settings)
        return self._counted(caller, settings)

    def recent(self, token: str) -> Caller | None:
        """Whoever was admitted with this token within ``RECENT_SECONDS``; None: ask ``admit``.

        Quick enough for the event loop. Raises ``RateLimited``.
        """
        found = self._known.recent(hashlib.sha256(token.encode()).digest())
        return None if found is None else self._counted(*found)

    def _counted(self, caller: Caller, settings: TenantSettings) -> Caller:
        if settings.requests_per_minute is not None:
            who = f"{caller.tenant}\n{caller.principal}"
            if wait := self._requests.take(who, settings.requests_per_minute):
                raise _rate_limited(wait)
        return caller

    def _holder(self, token: str) -> tuple[Caller, TenantSettings]:
        if len(token) > _MAX_TOKEN_LENGTH:
            raise _unauthenticated()
        if token.startswith(key_texts.PREFIX):
            return self._holder_of_key(token)
        if self._provider is None:
            raise _unauthenticated()
        caller = self._provider.caller(token)
        if caller is None:
            raise _unauthenticated()
        try:
            with self._database.reading() as session:
                return caller, tenants.get(session, caller.tenant).settings
        except TenantNotFound:
            raise _unauthenticated() from None

    def _holder_of_key(self, text: str) -> tuple[Caller, TenantSettings]:
        now = datetime.now(UTC)
        with self._database.reading() as session:
            holder = keys.authenticate(session, text, now=now)
        if holder is None:
            raise _unauthenticated()
        key = holder.key
        # Of many requests at once, only one writes.
        if keys.is_stale(key, now) and not self._touches.take(key.id, 1):
            with self._database.transaction() as session:
                keys.touch(session, key.id, now=now)
        return Caller(key.tenant, key.principal, key.scopes), holder.settings


class _Known:
    """The tokens that were admitted, as digests, the latest ``_MAX_KNOWN``; and whose they were."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._held: OrderedDict[bytes, tuple[float, Caller, TenantSettings]] = OrderedDict()

    def __contains__(self, digest: bytes) -> bool:
        with self._lock:
            return digest in self._held

    def recent(self, digest: bytes) -> tuple[Caller, TenantSettings] | None:
        """What was found a moment ago."""
        with self._lock:
            found = self._held.get(digest)
        if found is None or time.monotonic() - found[0] > RECENT_SECONDS:
            return None
        return found[1:]

    def add(self, digest: bytes, caller: Caller, settings: TenantSettings) -> None:
        with self._lock:
            self._held[digest] = (time.monotonic(), caller, settings)
            self._held.move_to_end(digest)
            if len(self._held) > _MAX_KNOWN:
                self._held.popitem(last=False)

    def forget(self, digest: bytes) -> None:
        with self._lock:
            self._held.pop(digest, None)


def _provider(settings: Settings) -> Provider | None:
    if settings.oidc_jwks is None:
        return None
    # Only here: an installation without a provider starts without its libraries.
    from service.oidc import Provider

    return Provider(settings)


def _network(address: str) -> str:
    """What one guesser can change its address within: of IPv6 the whole network of a line."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    mapped = parsed.ipv4_mapped
    return str(mapped) if mapped else parsed.packed[:8].hex()


def _unauthenticated() -> errors.Unauthenticated:
    return errors.Unauthenticated(headers={"www-authenticate": CHALLENGE})


def _rate_limited(seconds: int) -> errors.RateLimited:
    return errors.RateLimited(headers={"retry-after": str(seconds)})
