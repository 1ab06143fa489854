from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cli_world import JOB, Run, Service, job, problem

from api_schemas.access import Scope
from cli import up
from cli.options import settings
from cli.stack import environment_for
from registry import keys
from registry.database import Database

SHOWN = re.compile(r"API key \(shown once\): (rzr_[0-9A-Za-z]{59})\n")


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(tmp_path / "data")


def opens(data: str, text: str) -> keys.Key | None:
    database = Database(settings(Path(data)).database)
    with database.reading() as session:
        holder = keys.authenticate(session, text, now=datetime.now(UTC))
    database.close()
    return None if holder is None else holder.key


def made(run: Run, data: str, *more: str) -> str:
    found = run("keys", "create", "ci", "--data", data, *more)
    assert found.code == 0
    shown = SHOWN.fullmatch(found.out)
    assert shown is not None
    return shown[1]


def test_a_key_is_printed_once_listed_rotated_and_revoked(run: Run, data: str) -> None:
    text = made(run, data, "--scope", "unlearn:read", "--scope", "audit:read", "--days", "3")
    key = opens(data, text)
    assert key is not None
    assert key.scopes == {Scope.UNLEARN_READ, Scope.AUDIT_READ}
    assert key.expires_at is not None
    assert (key.expires_at - key.created_at).days == 3
    found = run("keys", "rotate", key.id, "--overlap-hours", "0", "--data", data)
    shown = SHOWN.fullmatch(found.out)
    assert shown is not None
    successor = opens(data, shown[1])
    assert successor is not None
    assert opens(data, text) is None
    assert run("keys", "revoke", successor.id, "--data", data).code == 0
    assert opens(data, shown[1]) is None
    listed = run("keys", "list", "--data", data).out
    assert [line.split()[2] for line in listed.splitlines()[1:]] == ["expired", "revoked"]
    for secret in (text, shown[1]):
        assert secret[14:] not in listed
        assert keys.key_texts.digest(secret) not in listed


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("keys", "create", "ci"), 2),
        (("keys", "create", "ci", "--scope", "everything"), 2),
        (("keys", "create", "ci", "--scope", "admin", "--tenant", "nobody"), 1),
        (("keys", "revoke", "nothing"), 1),
        (("keys", "rotate", "nothing"), 1),
        (("tenants", "add", "Not A Name"), 2),
        (("tenants", "add", "acme", "--set", "max_queued_jobs"), 2),
        (("tenants", "add", "acme", "--set", "max_queued_jobs=-1"), 2),
        (("tenants", "add", "acme", "--set", "max_qeued_jobs=1"), 2),
        (("tenants", "set", "nobody", "--set", "max_queued_jobs=1"), 1),
    ],
)
def test_what_cannot_be_is_refused(
    run: Run, data: str, arguments: tuple[str, ...], code: int
) -> None:
    found = run(*arguments, "--data", data)
    assert found.code == code
    assert found.out == ""


def test_tenants_are_added_changed_and_listed(run: Run, data: str) -> None:
    assert run("tenants", "add", "acme", "--set", "max_queued_jobs=5", "--data", data).code == 0
    changes = ("--set", "approval_required=true", "--set", "retention_days=30")
    assert run("tenants", "set", "acme", *changes, "--data", data).code == 0
    header, line = run("tenants", "list", "--data", data).out.splitlines()
    assert dict(zip(header.split(), line.split(), strict=True)) == {
        "tenant": "acme",
        "approval_required": "true",
        "retention_days": "30",
        "max_queued_jobs": "5",
        "max_jobs_per_day": "null",
        "requests_per_minute": "null",
    }
    assert run("tenants", "add", "acme", "--data", data).code == 1
    assert opens(data, made(run, data, "--tenant", "acme", "--scope", "admin")) is not None


def test_the_first_start_makes_a_key_and_later_ones_do_not(data: str) -> None:
    chosen = settings(Path(data))
    up.prepare_database(chosen)
    first = up.first_key(chosen)
    assert first is not None
    key = opens(data, first.text)
    assert key is not None
    assert key.scopes == set(Scope)
    assert up.first_key(chosen) is None


def test_the_key_comes_from_the_environment_or_a_file(
    run: Run, service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    service.set("GET", f"/jobs/{JOB}", job())
    (tmp_path / "key").write_text("from-file\n")
    monkeypatch.delenv("RAZOR_API_KEY", raising=False)
    run("status", JOB)
    monkeypatch.setenv("RAZOR_API_KEY", "from-environment")
    run("status", JOB)
    run("--key-file", str(tmp_path / "key"), "status", JOB)
    run("status", JOB)
    assert [request.headers.get("authorization") for request in service.asked] == [
        None,
        "Bearer from-environment",
        "Bearer from-file",
        "Bearer from-environment",
    ]
    assert "RAZOR_API_KEY" not in environment_for(settings(tmp_path))


def test_who_is_not_known_is_told_what_to_set(run: Run, service: Service) -> None:
    service.set("GET", f"/jobs/{JOB}", problem(401))
    found = run("status", JOB)
    assert found.code == 1
    assert "RAZOR_API_KEY" in found.err
    service.set("GET", f"/jobs/{JOB}", problem(403))
    assert "RAZOR_API_KEY" not in run("status", JOB).err
