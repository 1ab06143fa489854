"""A broker that is gone, silent or emptied: it holds nothing of worth, so nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis
from front_world import as_files, bearer, pictures
from live_front import Live, start

from api_schemas.messages import QUEUE
from registry.settings import Settings
from service.broker import CeleryBroker
from tests.faults.conftest import OUTAGE_SECONDS, Server, until
from tests.faults.test_faults_database import REQUEST

pytestmark = pytest.mark.redis


@pytest.fixture
def front(tmp_path: Path, broker: Server) -> Iterator[Live]:
    values = {"broker_url": broker.url, "recovery_seconds": 0.2, "resend_after_seconds": 1.0}
    settings = Settings(data_folder=tmp_path / "data", **values)
    running = start(tmp_path, broker=CeleryBroker(settings), **values)
    yield running
    running.stop()


@pytest.fixture
def http(front: Live) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=front.url, headers=bearer(front.key), timeout=30, verify=False
    ) as client:
        yield client


def post(http: httpx.Client) -> httpx.Response:
    files = [("request", (None, REQUEST, "application/json")), *as_files(pictures(3))]
    return http.post("/unlearn", files=files)


def waiting(broker: Server) -> int:
    client = redis.Redis.from_url(broker.url)
    try:
        return int(client.llen(QUEUE))
    finally:
        client.close()


@pytest.mark.parametrize("how", ["gone", "silent"])
def test_requests_are_accepted_without_a_broker(
    http: httpx.Client, broker: Server, how: str
) -> None:
    assert post(http).status_code == 202
    until(lambda: waiting(broker) == 1)
    broker.stop() if how == "gone" else broker.freeze()
    began = time.monotonic()
    assert post(http).status_code == 202
    told = http.get("/readyz")
    assert (told.status_code, told.json()["status"]) == (200, "degraded")
    assert told.json()["checks"]["broker"] == "failed"
    time.sleep(max(0.0, OUTAGE_SECONDS - (time.monotonic() - began)))
    broker.start() if how == "gone" else broker.thaw()
    # The first message went with the broker: the reconciler sends it again.
    until(lambda: waiting(broker) >= 2)
    until(lambda: http.get("/readyz").json()["status"] == "ready")


def test_an_emptied_broker_is_filled_again(http: httpx.Client, broker: Server) -> None:
    for _ in range(3):
        assert post(http).status_code == 202
    until(lambda: waiting(broker) == 3)
    client = redis.Redis.from_url(broker.url)
    client.flushall()
    client.close()
    until(lambda: waiting(broker) >= 3)
