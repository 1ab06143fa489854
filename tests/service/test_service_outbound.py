"""Nothing is sent to a private or a changed address, whatever name or redirect leads there."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from webhook_world import receiving

from api_schemas.webhooks import DeliveryFailure
from registry.deliveries import Result
from service import addresses, outbound
from service.errors import InvalidRequest
from service.outbound import Sender

BODY = b"{}"
REFUSED = Result(failure=DeliveryFailure.ADDRESS_REFUSED)
PUBLIC = ("93.184.215.14", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8")
CLOSED = (
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "198.18.0.1",
    "::1",
    "::",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "fe80::1",
    "fec0::1",
    "fd00:ec2::254",
    "ff02::1",
    "64:ff9b::a00:1",
    "2002:7f00:1::",
    "2001::1",
)


def strict(*found: str) -> Sender:
    """A sender for which every name has these addresses, without a root certificate to load."""
    return Sender(resolve=lambda *_: list(found), tls=bare)


def bare() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def send(sender: Sender, url: str) -> Result:
    return sender.post(url, {"content-type": "application/json"}, BODY)


@pytest.mark.parametrize("address", CLOSED)
def test_no_closed_address_is_reached(address: str) -> None:
    assert not addresses.is_public(addresses.plain(address))
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(InvalidRequest):
        addresses.check_url(f"https://{host}/", allow_private=False)
    assert send(strict(address), "https://example.org/") == REFUSED
    # One good address beside it does not open the door.
    assert send(strict(PUBLIC[0], address), "https://example.org/") == REFUSED


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_open_by_https_alone(address: str) -> None:
    """The negative control of the test above."""
    found = addresses.plain(address)
    for allow_private in (False, True):
        assert addresses.may_reach(found, "https", allow_private=allow_private)
        assert not addresses.may_reach(found, "http", allow_private=allow_private)


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0x7f.1", "3232235777", "0"]
)
def test_other_ways_to_write_an_address_are_seen_through(host: str) -> None:
    assert send(Sender(tls=bare), f"https://{host}/") == REFUSED
    with pytest.raises(InvalidRequest):
        addresses.check_url(f"https://{host}/", allow_private=False)


def test_http_is_for_the_loopback_and_only_when_allowed() -> None:
    for url in ("http://127.0.0.1/", "http://localhost:99/", "https://10.0.0.1/"):
        addresses.check_url(url, allow_private=True)
        with pytest.raises(InvalidRequest):
            addresses.check_url(
                url if url.startswith("http:") else "http://10.0.0.1/", allow_private=False
            )
    for url in ("http://10.0.0.1/", "http://example.org/", "https://169.254.169.254/"):
        with pytest.raises(InvalidRequest):
            addresses.check_url(url, allow_private=True)
    with receiving() as receiver:
        assert send(Sender(allow_private=True), receiver.url) == Result(status_code=200)
        assert send(Sender(), receiver.url) == REFUSED
        assert len(receiver.got) == 1


def test_a_name_that_changes_after_the_check_reaches_nothing() -> None:
    """The first look says public, every later one says here: there is no later one."""
    with receiving() as receiver:
        looks: list[str] = []
        connected: list[str] = []

        def rebinding(host: str, _port: int) -> list[str]:
            looks.append(host)
            return ["192.0.2.1"] if len(looks) == 1 else ["127.0.0.1"]

        def everything(*_: object, **__: object) -> bool:
            return True

        def connect(address: tuple[str, int], *_: object, **__: object) -> socket.socket:
            connected.append(address[0])
            raise ConnectionRefusedError

        with pytest.MonkeyPatch.context() as patch:
            # 192.0.2.1 stands for a public address; it is documentation's own and answers nobody.
            patch.setattr(outbound, "may_reach", everything)
            patch.setattr(socket, "create_connection", connect)
            url = f"http://rebinds.example:{receiver.port}/"
            assert send(Sender(resolve=rebinding), url).failure is DeliveryFailure.UNREACHABLE
        assert looks == ["rebinds.example"]
        assert connected == ["192.0.2.1"]
        assert receiver.got == []
        # The other way round the check refuses, and nothing is connected to.
        assert send(Sender(resolve=rebinding), url) == REFUSED
        assert receiver.got == []


def test_no_redirect_is_followed() -> None:
    with receiving() as private, receiving(302) as receiver:
        receiver.location = private.url
        assert send(Sender(allow_private=True), receiver.url) == Result(status_code=302)
        assert private.got == []
        assert len(receiver.got) == 1


def test_no_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as proxy, receiving() as receiver:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert send(Sender(allow_private=True), receiver.url) == Result(status_code=200)
        assert (len(proxy.got), len(receiver.got)) == (0, 1)


def test_names_and_ports_that_lead_nowhere() -> None:
    def fails(*_: object) -> list[str]:
        raise socket.gaierror

    for resolve in (fails, lambda *_: []):
        unresolved = send(Sender(resolve=resolve, tls=bare), "https://example.org/")
        assert unresolved.failure is DeliveryFailure.NAME_UNRESOLVED
    refused = send(Sender(allow_private=True), "http://127.0.0.1:1/")
    assert refused.failure is DeliveryFailure.UNREACHABLE


@contextmanager
def talking(*chunks: bytes, pause: float = 0.0, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server that says this, slowly, to whoever comes; gives its port."""
    over = threading.Event()

    def serve(client: socket.socket) -> None:
        try:
            if tls is not None:
                client = tls.wrap_socket(client, server_side=True)
            with client:
                # All of it: who hangs up on a client that still talks cuts its own answer off.
                asked = b""
                while not asked.endswith(BODY) and (piece := client.recv(65536)):
                    asked += piece
                for chunk in chunks:
                    if over.wait(pause):
                        return
                    client.sendall(chunk)
        except OSError:
            pass
        finally:
            client.close()

    def accept() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        over.set()
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_dripping_server_is_left_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound, "DEADLINE_SECONDS", 0.6)
    with talking(*[b"H"] * 1000, pause=0.1) as port:
        started = time.monotonic()
        found = send(Sender(allow_private=True), f"http://127.0.0.1:{port}/")
        assert found.failure is DeliveryFailure.TIMED_OUT
        assert time.monotonic() - started < 5


def test_an_endless_body_is_not_read_and_an_endless_head_is_refused() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n"
    with talking(head, *[b"x" * 65536] * 10_000) as port:
        found = send(Sender(allow_private=True), f"http://127.0.0.1:{port}/")
        assert found == Result(status_code=200)
    with talking(b"HTTP/1.1 200 OK\r\n", *[b"x: " + b"y" * 60_000 + b"\r\n"] * 100) as port:
        found = send(Sender(allow_private=True), f"http://127.0.0.1:{port}/")
        assert found.failure is DeliveryFailure.BROKEN_ANSWER
    with talking(b"SSH-2.0-server\r\n\r\n") as port:
        found = send(Sender(allow_private=True), f"http://127.0.0.1:{port}/")
        assert found.failure is DeliveryFailure.BROKEN_ANSWER


def certified(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate for this name, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=10))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("10.9.9.9"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "cert.pem").write_bytes(pem)
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return server, ssl.create_default_context(cadata=pem.decode())


def test_tls_is_checked_against_the_name_and_not_the_address(tmp_path: Path) -> None:
    server, client = certified(tmp_path, "hooks.example")
    answer = b"HTTP/1.1 204 No Content\r\n\r\n"
    with talking(answer, tls=server) as port:
        sender = Sender(allow_private=True, resolve=lambda *_: ["127.0.0.1"], tls=lambda: client)
        assert send(sender, f"https://hooks.example:{port}/") == Result(status_code=204)
        wrong = send(sender, f"https://other.example:{port}/")
        assert wrong.failure is DeliveryFailure.TLS_FAILED
        untrusting = Sender(allow_private=True, resolve=lambda *_: ["127.0.0.1"], tls=bare)
        unknown = send(untrusting, f"https://hooks.example:{port}/")
        assert unknown.failure is DeliveryFailure.TLS_FAILED
