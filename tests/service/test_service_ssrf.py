"""Addresses from outside that would have the service call itself or its neighbours: none is called.

What ``service.outbound`` checks of names and addresses has tests of its own; here are the ways in:
webhooks, OpenDSR callbacks, and the identity provider's keys.
"""

from __future__ import annotations

import base64
import json
import socket
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import TypeAdapter, ValidationError
from test_service_outbound import bare, send
from webhook_world import receiving

from api_schemas.opendsr import CallbackUrl
from api_schemas.webhooks import DeliveryFailure
from registry.settings import Settings
from service.oidc import Provider
from service.outbound import Sender

#: Refused when they are named: by their form, or because the address is there to see.
REFUSED = (
    "https://user:word@example.org/",
    "https://user@127.0.0.1/",
    "https://example.org\\@127.0.0.1/",
    "https://example.org/#@127.0.0.1/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::ffff:a9fe:a9fe]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[::]/",
    "https://[fe80::1%25eth0]/",
    "https://[fd00:ec2::254]/",
    "https://127.0.0.1:22/",
    "https://017700000001/",
    "https://0x7f000001/",
    "https://2130706433/",
    "https://127.1/",
    "https://0/",
    "https://169.254.169.254/latest/meta-data/",
    "https://\u2460\u2461\u2466.0.0.1/",
    "https://example.org:0/",
    "https://example.org:99999/",
    "https:///etc/passwd",
    "http://example.org/",
    "HTTPS://127.0.0.1/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "ftp://example.org/",
    "//example.org/",
    "javascript:alert(1)",
    "https://example.org/\r\nHost: 127.0.0.1",
    "https://example.org/ x",
    "",
)
#: Names that look harmless until they are looked up.
CLOSED_WHEN_SENT = (
    "https://localhost/",
    "https://localhost.:6379/",
    "https://127.0.0.1./",
    "https://%31%32%37.0.0.1/",
    "https://ip6-localhost/",
)
NEVER_CALLED = {DeliveryFailure.ADDRESS_REFUSED, DeliveryFailure.NAME_UNRESOLVED}


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every address that somebody tries to connect to; none is reached."""
    found: list[Any] = []

    def connect(address: Any, *_: object, **__: object) -> socket.socket:
        found.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", connect)
    return found


@pytest.mark.parametrize("url", REFUSED)
def test_a_webhook_to_there_is_refused(http: TestClient, url: str) -> None:
    answer = http.post("/webhooks", json={"url": url})
    assert answer.status_code == 422, answer.text
    assert [wrong["pointer"] for wrong in answer.json()["errors"]] == ["/url"]
    assert http.get("/webhooks").json()["items"] == []


def test_a_webhook_to_a_public_name_is_taken(http: TestClient) -> None:
    """The negative control."""
    assert http.post("/webhooks", json={"url": "https://example.org:8443/x"}).status_code == 201


@pytest.mark.parametrize("url", [*REFUSED, *CLOSED_WHEN_SENT])
def test_an_opendsr_callback_to_there_is_refused_or_never_called(
    url: str, connected: list[Any]
) -> None:
    try:
        TypeAdapter(CallbackUrl).validate_python(url)
    except ValidationError:
        return
    assert send(Sender(tls=bare), url).failure in NEVER_CALLED
    assert connected == []


@pytest.mark.parametrize("url", CLOSED_WHEN_SENT)
def test_a_webhook_by_a_name_that_leads_here_is_never_called(
    http: TestClient, url: str, connected: list[Any]
) -> None:
    assert http.post("/webhooks", json={"url": url}).status_code in (201, 422)
    assert send(Sender(tls=bare), url).failure in NEVER_CALLED
    assert connected == []


def test_a_public_address_would_have_been_connected_to(connected: list[Any]) -> None:
    """The negative control of the tests above."""
    sender = Sender(resolve=lambda *_: ["93.184.215.14"], tls=bare)
    assert send(sender, "https://example.org:8443/").failure is DeliveryFailure.UNREACHABLE
    assert connected == [("93.184.215.14", 8443)]


def test_a_token_cannot_say_where_its_key_is() -> None:
    """``jku`` and ``x5u`` are addresses in a token that nobody has checked yet."""

    def part(fields: dict[str, str]) -> str:
        return base64.urlsafe_b64encode(json.dumps(fields).encode()).rstrip(b"=").decode()

    with receiving() as receiver:
        settings = Settings(
            oidc_issuer="https://issuer.example",
            oidc_audience="razor",
            oidc_jwks=receiver.url.replace("/hook", "/keys"),
        )
        header = {"alg": "RS256", "kid": "1", "jku": receiver.url, "x5u": receiver.url}
        token = ".".join([part(header), part({"iss": "https://issuer.example"}), "AAAA"])
        from service.errors import IdentityProviderUnavailable

        with pytest.raises(IdentityProviderUnavailable):
            Provider(settings).caller(token)
        assert receiver.got == []


@pytest.mark.parametrize(
    "address",
    [
        "http://issuer.example/keys",
        "http://127.0.0.1.example.org/keys",
        "http://localhost.example.org/keys",
        "http://127.0.0.1@example.org/keys",
        "http://10.0.0.1/keys",
        "http://localhost:1@example.org/keys",
        "http://[::1]:1@example.org/keys",
        "ftp://issuer.example/keys",
        "gopher://127.0.0.1/keys",
        "http://[::ffff:127.0.0.1]/keys",
    ],
)
def test_the_providers_keys_come_by_https_or_from_this_machine(address: str) -> None:
    with pytest.raises(ValidationError, match="https"):
        Settings(oidc_issuer="https://i.example", oidc_audience="razor", oidc_jwks=address)
