"""``razor prepare`` on the embedded default; on PostgreSQL, Redis and S3: tests/production."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_world import Run

from registry.database import Database
from registry.settings import Settings


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"RAZOR_{name.upper()}", raising=False)


def test_it_says_what_it_made_ready_and_does_no_harm_again(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "data"
    first, again = (run("prepare", "--data", str(data)) for _ in range(2))
    assert (first.code, first.err) == (0, "")
    assert first == again
    assert [line.partition(":")[0] for line in first.out.splitlines()] == [
        "database",
        "store",
        "queue",
    ]
    database = Database(f"sqlite:///{data}/razor.db")
    database.ping()
    database.close()


@pytest.mark.parametrize(
    ("option", "words"),
    [(("--role", "razor_app"), "RAZOR_DATABASE_URL"), (("--make-bucket",), "RAZOR_BLOBS_URL")],
)
def test_what_the_default_has_not_is_refused(
    run: Run, tmp_path: Path, option: tuple[str, ...], words: str
) -> None:
    found = run("prepare", "--data", str(tmp_path), *option)
    assert found.code == 1
    assert words in found.err


def test_a_queue_that_is_down_is_named_without_its_password(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAZOR_BROKER_URL", "redis://razor:s3cr3t@127.0.0.1:1/0")
    found = run("prepare", "--data", str(tmp_path))
    assert found.code == 3
    assert "RAZOR_BROKER_URL" in found.err
    assert "s3cr3t" not in found.err + found.out


def test_a_store_that_is_down_is_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAZOR_BLOBS_URL", "s3://razor/blobs")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "razor")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
    found = run("prepare", "--data", str(tmp_path))
    assert found.code != 0
    assert "AWS_ENDPOINT_URL_S3" in found.err
    assert "s3cr3t" not in found.err + found.out
