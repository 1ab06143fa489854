"""One job through the processes of docker-compose.yml: PostgreSQL, Redis, S3, service, worker."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from by_hand import Machine, copied_secrets, source_tree
from compose_files import COMPOSE, DOCKER, SERVICES, secrets_of
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from api_schemas.concepts import Target
from api_schemas.jobs import JobStatus
from api_schemas.requests import Evaluation, UnlearnRequest
from cli.stack import free_port
from client import Client
from patches import verify as patch_verify
from razor.reference.captions import PROMPTS
from razor.reference.clip import shipped_clip
from tests.redis_server import available, redis_server
from tests.s3_server import S3Server

pytestmark = [pytest.mark.postgres, pytest.mark.redis, pytest.mark.s3]

POSTGRES = os.environ.get(
    "RAZOR_TEST_POSTGRES_URL", "postgresql+psycopg://root@127.0.0.1:5432/test"
)
PERSON = "Mara Venn"
SECONDS = 300.0
RECORD = """
id = "reference-clip"
family = "clip"
checkpoint = {checkpoint}
[retain]
folder = {retain}
[prompts]
"""


@pytest.fixture(scope="module")
def database() -> Iterator[dict[str, str]]:
    """A database made as the compose file's PostgreSQL makes it; roles and name of its own."""
    url, mark = make_url(POSTGRES), uuid.uuid4().hex[:8]
    names = {old: f"{old}_{mark}" for old in ("razor_owner", "razor_app")}
    names["5432/razor"] = f"{url.port or 5432}/razor_{mark}"
    engine = create_engine(POSTGRES, isolation_level="AUTOCOMMIT")
    try:
        connection = engine.connect()
    except OperationalError as error:
        if os.environ.get("RAZOR_REQUIRE_SERVICES") == "1":
            raise
        pytest.skip(f"PostgreSQL does not answer: {type(error.orig).__name__}")
    connection.execute(text(f"CREATE DATABASE razor_{mark}"))
    try:
        yield names | {"postgres:": f"{url.host}:"}
    finally:
        connection.execute(text(f"DROP DATABASE razor_{mark} WITH (FORCE)"))
        for role in (names["razor_owner"], names["razor_app"]):
            connection.execute(text(f"DROP ROLE IF EXISTS {role}"))
        connection.close()
        engine.dispose()


def make_roles(places: dict[str, str], secrets: Path) -> None:
    """Runs the script that compose's PostgreSQL runs when it makes its database."""
    url = make_url(POSTGRES)
    script = (DOCKER / "postgres/10-roles.sh").read_text("utf-8")
    for old in ("razor_owner", "razor_app"):
        script = script.replace(old, places[old])
    variables = {
        "PATH": os.environ["PATH"],
        "PGHOST": url.host or "",
        "PGPORT": str(url.port or 5432),
        "PGPASSWORD": url.password or "",
        "POSTGRES_USER": url.username or "",
        "POSTGRES_DB": places["5432/razor"].partition("/")[2],
    }
    script = script.replace("/run/secrets", str(secrets))
    subprocess.run(["sh", "-c", script], env=variables, check=True, timeout=60)


@pytest.fixture(scope="module")
def machine(
    tmp_path_factory: pytest.TempPathFactory,
    made_secrets: Path,
    database: dict[str, str],
    s3: S3Server,
) -> Iterator[Machine]:
    """Everything that the compose file starts before the service, on this machine."""
    if not available() and os.environ.get("RAZOR_REQUIRE_SERVICES") != "1":
        pytest.skip("redis-server is not installed")
    folder = tmp_path_factory.mktemp("machine")
    copied_secrets(made_secrets, folder)
    secrets = folder / "secrets"
    (secrets / "s3_credentials").write_text(
        f"[default]\naws_access_key_id = {s3.key_id}\naws_secret_access_key = {s3.secret}\n"
    )
    make_roles(database, secrets)
    for name in ("data", "models", "redis"):
        (folder / name).mkdir()
    ports = {name: str(free_port()) for name in ("8731", "9101")}
    conf = str(DOCKER / "redis/redis.conf")
    with redis_server(folder / "redis", conf, "--aclfile", str(secrets / "redis_acl")) as port:
        places = database | {
            "redis:6379": f"127.0.0.1:{port}",
            "http://objects:8333": s3.url,
            "s3://razor/": f"s3://razor-{uuid.uuid4().hex}/",
            "0.0.0.0": "127.0.0.1",
            **ports,
        }
        exact = {
            "/data": str(folder / "data"),
            "/models": str(folder / "models"),
            "/app": source_tree(),
        }
        made = Machine(folder, places, exact)
        try:
            yield made
        finally:
            made.stop()


def record(folder: Path, retain: Path) -> Path:
    """The record of the shipped model, as an operator writes it."""
    path = folder / "clip.toml"
    words = RECORD.format(
        checkpoint=json.dumps(str(shipped_clip())), retain=json.dumps(str(retain))
    )
    path.write_text(words + "".join(f"{k} = {json.dumps(v)}\n" for k, v in PROMPTS.items()))
    return path


@pytest.mark.timeout(900)
def test_one_job_through_the_processes_of_the_compose_file(
    machine: Machine, s3: S3Server, retain_folder: Path, draw_png: Callable[[str, int], bytes],
    tmp_path: Path,
) -> None:  # fmt: skip
    said = machine.run("prepare")
    assert "may do what the service needs" in said
    assert machine.run("prepare") == said, "again does no harm"
    razor = ["python", "-P", "-m", "cli.main"]
    path = record(machine.folder / "models", retain_folder)
    machine.run("service", [*razor, "models", "add", str(path)])
    issued = machine.run("service", [*razor, "keys", "create", "officer", "--scope", "admin"])
    (key,) = re.findall(r"rzr_\S+", issued)
    machine.start("service")
    machine.start("worker")

    url = f"http://127.0.0.1:{machine.here(SERVICES['service']['environment']['RAZOR_PORT'])}"
    request = UnlearnRequest(
        model="reference-clip", target=Target(name=PERSON), evaluation=Evaluation(probes=())
    )
    with Client(url, api_key=key) as client:
        assert client.readyz().status == "ready"
        assert set(client.readyz().checks.values()) == {"ok"}
        job_id = client.submit(request, [draw_png(PERSON, 5_000_000 + n) for n in range(8)]).id
        job = client.wait(job_id, timeout=SECONDS)
        assert job.status is JobStatus.SUCCEEDED, (job.error, machine.log("worker").read_text())
        assert job.result is not None
        patch_id = job.result.patch_id or ""
        digest = client.download_patch(patch_id, tmp_path / "patch")
        assert digest
        client.download_weights(patch_id, tmp_path / "weights.safetensors")
    checks = patch_verify.verify(tmp_path / "patch", shipped_clip())
    assert all(check.passed for check in checks), checks
    port = machine.here(SERVICES["worker"]["environment"]["RAZOR_WORKER_METRICS_PORT"])
    figures = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    assert 'razor_job_attempt_duration_seconds_count{end="succeeded"} 1.0' in figures
    check_the_store(machine, s3, tmp_path / "patch/patch.safetensors")
    check_the_roles(machine)
    check_the_logs(machine)


def check_the_store(machine: Machine, s3: S3Server, patch: Path) -> None:
    """The patch is in the bucket, under its hash; no blob is in a folder."""
    bucket = re.findall(r"s3://([^/]+)/", machine.environment("service")["RAZOR_BLOBS_URL"])[0]
    listed = s3.client().list_objects_v2(Bucket=bucket).get("Contents", ())
    kept = {found["Key"] for found in listed}
    digest = hashlib.sha256(patch.read_bytes()).hexdigest()
    assert f"blobs/{digest[:2]}/{digest[2:4]}/{digest}" in kept
    assert not (machine.folder / "data" / "blobs").exists()


def check_the_roles(machine: Machine) -> None:
    """What service and worker connect as cannot remove a line of the audit log."""
    mounted = machine.folder / "run"
    for name in ("service", "worker"):
        engine = create_engine((mounted / name / "razor_database_url").read_text().strip())
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT count(*) FROM audit")) > 3
            with pytest.raises(ProgrammingError, match="permission denied"):
                connection.execute(text("DELETE FROM audit"))
        engine.dispose()


def check_the_logs(machine: Machine) -> None:
    """No log holds a password, a key, or whom the request was about."""
    words = re.compile(r"[0-9a-f]{48}")
    secret = {
        word
        for path in (machine.folder / "secrets").iterdir()
        for word in words.findall(path.read_text("utf-8"))
    }
    secret.add((machine.folder / "secrets/s3_credentials").read_text().split()[-1])
    assert len(secret) > 5
    logs = [machine.log(name) for name in ("prepare", "service", "worker")]
    written = "".join(log.read_text("utf-8", errors="replace") for log in logs)
    assert written.count("\n") > 10
    assert not [word for word in secret if word in written]
    assert "mara" not in written.lower()


def test_the_files_of_the_test_are_those_of_the_compose_file() -> None:
    """What is started by hand here is started there: nothing of the path is left out."""
    path = {"prepare", "service", "worker", "postgres", "redis", "objects"}
    assert path <= set(SERVICES)
    redis = SERVICES["redis"]
    assert redis["command"] == ["redis-server", "/etc/redis/redis.conf"]
    assert "./docker/redis:/etc/redis:ro" in redis["volumes"]
    assert "./docker/postgres:/docker-entrypoint-initdb.d:ro" in SERVICES["postgres"]["volumes"]
    assert set(secrets_of(SERVICES["postgres"])) >= {"postgres_owner", "postgres_app"}
    assert COMPOSE["name"] == "razor"
