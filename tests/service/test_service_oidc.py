"""Tokens of an identity provider: only those that it signed, for us, now; keys follow its own."""

from __future__ import annotations

import base64
import hmac
import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from front_world import World, bearer, world
from pydantic import ValidationError

from api_schemas.access import Scope
from registry import tenants
from registry.settings import Settings
from service import oidc
from service.errors import IdentityProviderUnavailable
from service.parts import now

ISSUER = "https://login.example"
AUDIENCE = "razor"
EC = ec.generate_private_key(ec.SECP256R1())
STRANGER = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public(key: Any, key_id: str, **fields: Any) -> dict[str, Any]:
    cls = jwt.algorithms.RSAAlgorithm if key is RSA else jwt.algorithms.ECAlgorithm
    found: dict[str, Any] = cls.to_jwk(key.public_key(), as_dict=True)
    return found | {"kid": key_id, "use": "sig"} | fields


def write(path: Path, *found: dict[str, Any]) -> None:
    path.write_text(json.dumps({"keys": list(found)}))


def claims(**changes: Any) -> dict[str, Any]:
    base = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "somebody@example.org",
        "exp": int(time.time()) + 300,
        "tenant": "default",
        "scope": "openid unlearn:read unlearn:write",
    }
    return {name: value for name, value in (base | changes).items() if value is not None}


def token(key: Any = EC, kid: str | None = "ec", algorithm: str = "ES256", **changes: Any) -> str:
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode(claims(**changes), key, algorithm=algorithm, headers=headers)


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def signed_with_the_public_key() -> str:
    """The old confusion: HS256 with the published key as its secret."""
    pem = EC.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    body = f"{part({'alg': 'HS256', 'kid': 'ec'})}.{part(claims())}"
    signature = hmac.digest(pem, body.encode(), "sha256")
    return f"{body}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("oidc")
    hmac_key = {"kty": "oct", "kid": "oct", "k": "c2VjcmV0" * 8}
    write(
        root / "jwks.json",
        *(public(EC, "ec"), public(RSA, "rsa"), public(EC, "enc", use="enc"), hmac_key),
        {"kty": "EC", "kid": "broken"},
    )
    settings = {
        "oidc_issuer": ISSUER,
        "oidc_audience": AUDIENCE,
        "oidc_jwks": str(root / "jwks.json"),
        "auth_failures_per_minute": 1000,
    }
    with world(root, **settings) as made:
        with made.parts.database.transaction() as session:
            tenants.ensure(session, "acme", actor="operator", now=now())
        yield made


def status(front: World, text: str, path: str = "/jobs") -> int:
    assert front.http is not None
    return front.http.get(path, headers=bearer(text)).status_code


RIGHT: dict[str, Callable[[], str]] = {
    "ec": token,
    "rsa": lambda: token(RSA, "rsa", "RS256"),
    "a list of audiences": lambda: token(aud=["other", AUDIENCE]),
    "a list of scopes": lambda: token(scope=["unlearn:read", "x"]),
    "another tenant": lambda: token(tenant="acme"),
    "just expired": lambda: token(exp=int(time.time()) - 5),
    "all scopes": lambda: token(scope="admin"),
}
WRONG: dict[str, Callable[[], str]] = {
    "another's signature": lambda: token(STRANGER),
    "an unknown key": lambda: token(kid="unknown"),
    "no key named, several published": lambda: token(kid=None),
    "a key for encryption": lambda: token(kid="enc"),
    "none": lambda: f"{part({'alg': 'none', 'kid': 'ec'})}.{part(claims())}.",
    "the public key as secret": signed_with_the_public_key,
    "a symmetric key": lambda: token(b"secret" * 8, "oct", "HS256"),
    "an algorithm not allowed": lambda: token(RSA, "rsa", "RS512"),
    "the wrong kind of key": lambda: token(RSA, "ec", "RS256"),
    "expired": lambda: token(exp=int(time.time()) - 60),
    "not yet": lambda: token(nbf=int(time.time()) + 60),
    "another issuer": lambda: token(iss="https://login.example.org"),
    "another audience": lambda: token(aud="other"),
    "no expiry": lambda: token(exp=None),
    "no audience": lambda: token(aud=None),
    "no issuer": lambda: token(iss=None),
    "no subject": lambda: token(sub=None),
    "no tenant": lambda: token(tenant=None),
    "a tenant that is no word": lambda: token(tenant=["default"]),
    "a tenant that is not there": lambda: token(tenant="nobody"),
    "scopes that are no words": lambda: token(scope={"admin": True}),
    "nothing": lambda: "..",
    "deeply nested": lambda: (
        f"{base64.urlsafe_b64encode(b'[' * 5000).decode().rstrip('=')}.e30.e30"
    ),
    "an extension that must be understood": lambda: (
        f"{part({'alg': 'ES256', 'kid': 'ec', 'crit': ['x']})}.{part(claims())}.e30"
    ),
}


@pytest.mark.parametrize("make", RIGHT.values(), ids=RIGHT)
def test_a_token_that_is_right_is_admitted(front: World, make: Callable[[], str]) -> None:
    assert status(front, make()) == 200


@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG)
def test_a_token_that_is_wrong_gets_the_one_answer(front: World, make: Callable[[], str]) -> None:
    assert front.http is not None
    text = make()
    answer = front.http.get("/jobs", headers=bearer(text))
    assert answer.status_code == 401
    assert answer.json()["type"] == "/problems/unauthenticated"
    assert answer.headers["www-authenticate"] == 'Bearer realm="razor"'


def test_scopes_are_those_of_the_token(front: World) -> None:
    assert status(front, token(scope="unlearn:write")) == 403
    assert status(front, token(scope="openid profile")) == 403
    assert status(front, token(scope=None)) == 403


def test_the_caller_is_told_apart_and_not_named() -> None:
    one = oidc.principal(ISSUER, "somebody@example.org")
    assert one == oidc.principal(ISSUER, "somebody@example.org")
    assert one != oidc.principal(ISSUER, "somebody.else@example.org")
    assert one != oidc.principal("https://other.example", "somebody@example.org")
    assert "somebody" not in one


def test_api_keys_work_beside_tokens(front: World) -> None:
    assert status(front, front.new_key(Scope.UNLEARN_READ)) == 200


def test_other_claims_can_carry_tenant_and_scopes(tmp_path: Path) -> None:
    write(tmp_path / "jwks.json", public(EC, "ec"))
    provider = oidc.Provider(
        Settings(
            data_folder=tmp_path,
            oidc_issuer=ISSUER,
            oidc_audience=AUDIENCE,
            oidc_jwks=str(tmp_path / "jwks.json"),
            oidc_tenant_claim="https://razor.example/org",
            oidc_scopes_claim="roles",
        )
    )
    changes = {"https://razor.example/org": "acme", "roles": ["audit:read"]}
    found = provider.caller(token(**changes))
    assert found is not None
    assert (found.tenant, found.scopes) == ("acme", {Scope.AUDIT_READ})


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_new_key_of_the_provider_is_found_and_strangers_cause_no_traffic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, clock, reads = tmp_path / "jwks.json", Clock(), []
    real = oidc._read
    monkeypatch.setattr(oidc, "_read", lambda source: (reads.append(source), real(source))[1])
    write(path, public(EC, "old"))
    found = oidc.KeySet(str(path), 300.0, clock=clock)
    assert found.key("old") is not None
    assert found.key(None) is not None  # the only one
    write(path, public(EC, "old"), public(STRANGER, "new"))
    for number in range(50):
        assert found.key(f"made up {number}") is None
    assert found.key("new") is None
    assert len(reads) == 1
    clock.now += 301
    assert found.key("new") is not None
    assert len(reads) == 2
    assert found.key(None) is None
    # A key that is withdrawn ends within the hour, though nobody names an unknown one.
    write(path, public(STRANGER, "new"))
    clock.now += oidc.MAX_AGE_SECONDS / 2 + 1
    assert found.key("old") is None


def test_keys_that_cannot_be_fetched_again_count_for_an_hour(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, clock = tmp_path / "jwks.json", Clock()
    write(path, public(EC, "ec"))
    found = oidc.KeySet(str(path), 300.0, clock=clock)
    assert found.key("ec") is not None
    path.write_text("{}")
    clock.now += oidc.MAX_AGE_SECONDS
    assert found.key("ec") is not None
    clock.now += 1
    with pytest.raises(IdentityProviderUnavailable):
        found.key("ec")
    write(path, public(EC, "ec"))
    clock.now += 11
    assert found.key("ec") is not None
    assert "no keys from the provider" in caplog.text


def test_a_provider_that_is_away_is_said_to_be_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    settings = {"oidc_issuer": ISSUER, "oidc_audience": AUDIENCE}
    with world(tmp_path, oidc_jwks=str(tmp_path / "none.json"), **settings) as made:
        assert made.http is not None
        answer = made.http.get("/jobs", headers=bearer(token()))
        assert answer.status_code == 503
        assert answer.json()["type"] == "/problems/identity-provider-unavailable"
        assert "retry-after" in answer.headers
        assert made.http.get("/jobs").status_code == 200  # keys go on


def test_keys_are_fetched_over_http_without_redirects(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {
        "/jwks": httpx.Response(200, json={"keys": []}),
        "/moved": httpx.Response(302, headers={"location": "/jwks"}),
        "/gone": httpx.Response(404),
        "/huge": httpx.Response(200, content=b"x" * (2**20 + 1)),
    }
    wire = httpx.MockTransport(lambda request: pages[request.url.path])
    real = httpx.Client
    monkeypatch.setattr(httpx, "Client", lambda **options: real(**options, transport=wire))
    assert json.loads(oidc._read("https://login.example/jwks")) == {"keys": []}
    for path in ("/moved", "/gone", "/huge"):
        with pytest.raises((ValueError, httpx.HTTPStatusError)):
            oidc._read(f"https://login.example{path}")


@pytest.mark.parametrize(
    "changes",
    [
        {"oidc_audience": None},
        {"oidc_jwks": None},
        {"oidc_jwks": "http://login.example/jwks"},
        {"oidc_jwks": "ftp://login.example/jwks"},
        {"oidc_jwks": "http://127.0.0.1@login.example/jwks"},
        {"oidc_algorithms": ("HS256",)},
        {"oidc_algorithms": ("none",)},
        {"oidc_algorithms": ()},
    ],
)
def test_settings_that_would_open_the_door_are_refused(changes: dict[str, Any]) -> None:
    right = {
        "oidc_issuer": ISSUER,
        "oidc_audience": AUDIENCE,
        "oidc_jwks": "https://login.example/jwks",
    }
    for address in ("https://login.example/jwks", "http://localhost:8080/jwks", "/etc/jwks.json"):
        Settings(**right | {"oidc_jwks": address})
    with pytest.raises(ValidationError):
        Settings(**right | changes)
