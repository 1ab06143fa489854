"""Redis as production has it: what is said of its set-up, who may come in, who it is."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import redis
from celery import Celery
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fastapi.testclient import TestClient

from registry.settings import Settings
from service.app import create_app
from service.broker import CeleryBroker, MemoryBroker, unfit
from tests.redis_server import available, redis_server

ROOT = Path(__file__).parent.parent.parent
CONF = ROOT / "docker/redis/redis.conf"
NEEDED = pytest.mark.skipif(
    not available() and os.environ.get("RAZOR_REQUIRE_SERVICES") != "1",
    reason="redis-server is not installed",
)
pytestmark = [pytest.mark.redis, NEEDED]
#: Takes one message from the queue, as a worker does, and says which; listens for commands too.
TAKE = """
import sys
from registry.settings import Settings
from worker.app import make_app
app = make_app(Settings())
with app.connection_for_read() as connection:
    app.control.mailbox.Node("worker@here", channel=connection.channel()).listen()
    queue = connection.SimpleQueue("razor")
    message = queue.get(timeout=20)
    print(message.payload[0][0])
    message.ack()
"""


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets") / "made"
    subprocess.run([ROOT / "docker/make-secrets.sh", folder], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, secrets: Path) -> Iterator[str]:
    """The address of a Redis that runs with the compose file's settings and accounts."""
    folder = tmp_path_factory.mktemp("redis")
    acl = str(secrets / "redis_acl")
    with redis_server(folder, str(CONF), "--aclfile", acl) as port:
        url = (secrets / "broker_url").read_text().strip()
        yield url.replace("redis:6379", f"127.0.0.1:{port}")


def broker(tmp_path: Path, url: str, **settings: object) -> CeleryBroker:
    return CeleryBroker(
        Settings.model_validate({"data_folder": tmp_path, "broker_url": url, **settings})
    )


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"maxmemory_policy": "noeviction", "aof_enabled": 1}, []),
        ({"maxmemory_policy": "allkeys-lru", "aof_enabled": 1}, ["noeviction"]),
        ({"maxmemory_policy": "noeviction", "aof_enabled": 0}, ["appendonly yes"]),
        ({}, ["noeviction", "appendonly yes"]),
    ],
)
def test_what_is_wrong_with_redis_is_said_with_its_remedy(
    info: dict[str, object], words: list[str]
) -> None:
    found = unfit(info)
    assert len(found) == len(words)
    assert all(word in fault for word, fault in zip(words, found, strict=True))


def test_the_compose_files_redis_is_fit(guarded: str, tmp_path: Path) -> None:
    made = broker(tmp_path, guarded)
    assert made.faults() == []
    made.close()


def test_a_redis_as_it_comes_is_warned_of_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = ("--maxmemory-policy", "allkeys-lru", "--save", "")
    with redis_server(tmp_path, *options) as port:
        made = broker(tmp_path, f"redis://127.0.0.1:{port}/0")
        app = create_app(Settings(data_folder=tmp_path / "data"), broker=made)
        with caplog.at_level(logging.WARNING, "razor.http"), TestClient(app):
            pass
    warned = [record.getMessage() for record in caplog.records if record.name == "razor.http"]
    assert len(warned) == 2
    assert "noeviction" in warned[0]
    assert "appendonly yes" in warned[1]


def test_brokers_without_redis_are_asked_nothing(tmp_path: Path) -> None:
    assert CeleryBroker(Settings(data_folder=tmp_path)).faults() == []
    assert MemoryBroker().faults() == []


def test_a_front_starts_while_its_broker_is_down(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(data_folder=tmp_path, broker_url="redis://razor:s3cr3t@127.0.0.1:1/0")
    with caplog.at_level(logging.INFO), TestClient(create_app(settings)) as http:
        assert http.get("/readyz").json()["status"] == "degraded"
    assert "broker not looked at" in caplog.text
    told = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    assert "s3cr3t" not in told


def test_the_account_may_do_what_both_ends_do_and_no_more(guarded: str, tmp_path: Path) -> None:
    sender = broker(tmp_path, guarded)
    sender.send("job_1")
    sender.ping()
    sender.close()
    environment = os.environ | {"RAZOR_BROKER_URL": guarded, "RAZOR_DATA_FOLDER": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", TAKE], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["job_1"], done.stderr
    assert guarded.partition(":")[2].rpartition("@")[0].rpartition(":")[2] not in done.stderr
    with redis.Redis.from_url(guarded) as server:
        for command in (("CONFIG", "GET", "*"), ("FLUSHALL",), ("ACL", "LIST"), ("SHUTDOWN",)):
            with pytest.raises(redis.exceptions.NoPermissionError):
                server.execute_command(*command)
        with pytest.raises(redis.exceptions.NoPermissionError):
            server.set("somebody-elses", "1")
    host = guarded.rpartition("@")[2]
    stranger = redis.Redis.from_url(f"redis://{host}")
    with stranger, pytest.raises(redis.exceptions.AuthenticationError):
        stranger.ping()


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


def test_over_tls_the_broker_is_the_one_whose_authority_we_were_told(tmp_path: Path) -> None:
    file, key = certificate(tmp_path, "redis")
    other, _ = certificate(tmp_path, "another")
    options = ("--tls-cert-file", str(file), "--tls-key-file", str(key), "--tls-auth-clients", "no")
    with redis_server(tmp_path, "--save", "", *options, tls=True) as port:
        url = f"rediss://127.0.0.1:{port}/0"
        right = broker(tmp_path, url, broker_ca_file=file)
        right.ping()
        right.send("job_1")
        right.close()
        for settings in ({"broker_ca_file": other}, {}):
            wrong = broker(tmp_path, url, **settings)
            with pytest.raises(Exception, match="certificate verify failed"):
                wrong.ping()
            wrong.close()
        with pytest.raises(Exception, match=r"closed|reset|Connection"):
            broker(tmp_path, f"redis://127.0.0.1:{port}/0").ping()


def test_the_workers_banner_hides_the_password(tmp_path: Path) -> None:
    """What Celery itself prints of the address at a worker's start."""
    app = Celery("razor")
    url = "rediss://razor:s3cr3t@127.0.0.1:1/0"
    app.conf.update(Settings(data_folder=tmp_path, broker_url=url).celery_config())
    shown = app.connection_for_read().as_uri()
    assert "razor" in shown
    assert "s3cr3t" not in shown
