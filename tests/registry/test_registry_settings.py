"""Settings: what an operator sets is what both ends of the broker use."""

from __future__ import annotations

import os
import ssl
import uuid
from pathlib import Path

import kombu
import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError
from pydantic import ValidationError
from sqlalchemy import make_url

from api_schemas.messages import QUEUE, RUN_TASK
from registry.settings import Settings

REDIS = os.environ.get("RAZOR_TEST_REDIS_URL", "redis://127.0.0.1:6379/15")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"RAZOR_{name.upper()}", raising=False)
    monkeypatch.setenv("RAZOR_DATA_FOLDER", str(tmp_path / "data"))


def exchange(config: dict[str, object], queue: str) -> list[str]:
    """Send two messages by one Celery application and take them from the broker by another."""
    sender, receiver = Celery("sender"), Celery("receiver")
    taken: list[str] = []
    for app in (sender, receiver):
        app.conf.update(config | {"task_default_queue": queue})
    with sender.connection_for_write() as out, receiver.connection_for_read() as back:
        inbox = back.SimpleQueue(kombu.Queue(queue, routing_key=queue))
        for number in range(2):
            sender.send_task(RUN_TASK, args=[f"job_{number}"], connection=out)
        for _ in range(2):
            message = inbox.get(timeout=10)
            assert message.headers["task"] == RUN_TASK
            assert message.headers["timelimit"] == [None, None]
            taken.extend(message.payload[0])
            message.ack()
        inbox.queue.delete()
        inbox.close()
    sender.close()
    receiver.close()
    return sorted(taken)


def test_messages_cross_a_folder_of_files(tmp_path: Path) -> None:
    assert exchange(Settings().celery_config(), "razor-test") == ["job_0", "job_1"]
    left = [path.name for path in (tmp_path / "data/broker/messages").iterdir()]
    assert left == []


@pytest.mark.redis
def test_messages_cross_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAZOR_BROKER_URL", REDIS)
    config = Settings().celery_config()
    try:
        with kombu.Connection(REDIS) as connection:
            connection.ensure_connection(max_retries=1, timeout=2)
    except OperationalError:
        if os.environ.get("RAZOR_REQUIRE_SERVICES") == "1":
            raise
        pytest.skip("Redis does not answer")
    queue = f"razor-test-{uuid.uuid4().hex}"
    try:
        assert exchange(config, queue) == ["job_0", "job_1"]
    finally:
        # Deleting a queue leaves the key that binds it.
        with redis.Redis.from_url(REDIS) as server:
            server.delete(f"_kombu.binding.{queue}", f"_kombu.binding_permanent.{queue}")


def test_both_ends_get_the_same(tmp_path: Path) -> None:
    assert Settings().celery_config() == Settings().celery_config()
    assert Settings().celery_config()["task_default_queue"] == QUEUE


@pytest.mark.parametrize("limit", [2, 30, 3600, 86_400])
def test_a_run_is_stopped_gently_then_hard_then_given_to_another(limit: int) -> None:
    config = Settings(job_time_limit_seconds=limit).celery_config()
    visibility = config["visibility_timeout"]
    options = config["broker_transport_options"]
    assert isinstance(options, dict)
    assert isinstance(visibility, int)
    assert 0 < config["task_soft_time_limit"] < config["task_time_limit"] == limit < visibility  # type: ignore[operator]
    assert options["visibility_timeout"] == visibility
    assert config["result_backend_transport_options"] == {"visibility_timeout": visibility}


def test_no_time_limit_shorter_than_two_seconds() -> None:
    with pytest.raises(ValidationError):
        Settings(job_time_limit_seconds=1)


def test_the_default_needs_nothing_but_a_folder(tmp_path: Path) -> None:
    settings = Settings()
    assert settings.database == f"sqlite:///{tmp_path}/data/razor.db"
    assert settings.broker == "filesystem://"
    assert settings.blob_folder == tmp_path / "data/blobs"
    assert (settings.host, settings.port) == ("127.0.0.1", 8731)


def test_a_folder_may_have_any_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    odd = tmp_path / "a b?#%25é"
    monkeypatch.setenv("RAZOR_DATA_FOLDER", str(odd))
    assert make_url(Settings().database).database == str(odd / "razor.db")


def test_the_folder_stays_where_it_was_meant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAZOR_DATA_FOLDER", "relative")
    settings = Settings()
    monkeypatch.chdir("/")
    assert settings.data_folder == tmp_path / "relative"


def test_variables_win_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAZOR_DATABASE_URL", "postgresql+psycopg://razor:pa55phrase@db/razor")
    monkeypatch.setenv("RAZOR_BROKER_URL", "redis://:pa55phrase@queue/0")
    monkeypatch.setenv("RAZOR_MAX_ATTEMPTS", "7")
    settings = Settings()
    assert settings.database == "postgresql+psycopg://razor:pa55phrase@db/razor"
    assert settings.broker == "redis://:pa55phrase@queue/0"
    assert settings.max_attempts == 7
    assert "pa55phrase" not in repr(settings) + str(settings)


def test_secrets_may_lie_in_files_and_variables_win(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "razor_database_url").write_text("postgresql+psycopg://razor:pa55phrase@db/razor\n")
    (folder / "RAZOR_BROKER_URL").write_text("redis://:pa55phrase@file/0")
    (folder / "somebody_elses").write_text("x")
    monkeypatch.setenv("RAZOR_BROKER_URL", "redis://:pa55phrase@variable/0")
    assert Settings().database_url is None
    monkeypatch.setenv("RAZOR_SECRETS_FOLDER", str(folder))
    settings = Settings()
    assert settings.database == "postgresql+psycopg://razor:pa55phrase@db/razor"
    assert settings.broker == "redis://:pa55phrase@variable/0"
    monkeypatch.delenv("RAZOR_BROKER_URL")
    assert Settings().broker == "redis://:pa55phrase@file/0"
    assert "pa55phrase" not in repr(settings) + str(settings)


@pytest.mark.parametrize(
    ("url", "checked"), [("redis://queue/0", False), ("rediss://queue/0", True), (None, False)]
)
def test_tls_is_asked_for_by_the_address_and_always_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str | None, checked: bool
) -> None:
    monkeypatch.setenv("RAZOR_BROKER_CA_FILE", str(tmp_path / "ca.pem"))
    asked = Settings(broker_url=url).celery_config()["broker_use_ssl"]
    if not checked:
        assert asked is None
        return
    assert isinstance(asked, dict)
    assert asked["ssl_cert_reqs"] is ssl.CERT_REQUIRED
    assert asked["ssl_check_hostname"] is True
    assert asked["ssl_ca_certs"] == str(tmp_path / "ca.pem")
