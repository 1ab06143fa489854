"""Events through breaks and restarts, each once; webhooks by the client's calls."""

from __future__ import annotations

import threading
from pathlib import Path

import httpx
import pytest
from broken_wire import FaultyWire, refused, unavailable
from front_world import World
from live_front import Live, free_port, start

from api_schemas.events import EventType
from client import Client, ProblemError, ServiceUnreachable, watching

ALL = [1, 2, 3]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "PAUSE_SECONDS", 0.05)


def test_events_and_history(front: World, service: Client) -> None:
    job = front.finished()
    assert [event.id for event in service.events(job.id)] == ALL
    assert [event.id for event in service.events(job.id, after=1)] == [2, 3]
    assert list(service.events(job.id, after=3)) == []
    page = service.history(job.id, after=0, limit=2)
    assert page.next == 2
    assert [event.id for event in service.history(job.id, after=2).items] == [3]
    with pytest.raises(ProblemError):
        next(service.events("job_none"))
    with pytest.raises(ProblemError):
        next(service.events(job.id, after=17))


def test_a_stream_that_breaks_goes_on_without_a_gap_or_a_repetition(server: Live) -> None:
    job = server.world.finished()
    wire = FaultyWire(refused, unavailable)
    wire._faults += [wire.breaks_after(size) for size in (0, 40, 300, 500, 900)]
    with Client(server.url, api_key=server.key, transport=wire) as service:
        assert [event.id for event in service.events(job.id)] == ALL
    asked = [request.headers["last-event-id"] for request in wire.requests]
    assert len(asked) > 4
    assert asked == sorted(asked)
    assert asked[-1] > "0"


def test_a_service_that_stays_away_is_told(server: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "PATIENCE_SECONDS", 0.2)
    with (
        Client(server.url, transport=FaultyWire(*[refused] * 99)) as service,
        pytest.raises(ServiceUnreachable),
    ):
        next(service.events("job_1"))


def test_events_go_on_through_a_restart_of_the_service(tmp_path: Path) -> None:
    port = free_port()
    first = start(tmp_path, port=port)
    job_id = first.world.accept()
    got: list[int] = []
    heard = threading.Event()

    def listen() -> None:
        with Client(first.url, api_key=first.key, timeout=20) as service:
            for event in service.events(job_id):
                got.append(event.id)
                heard.set()

    listener = threading.Thread(target=listen)
    listener.start()
    assert heard.wait(20)
    job = first.world.claim()
    first.stop()
    second = start(tmp_path, port=port)
    try:
        second.world.fail(job)
        listener.join(30)
        assert got == ALL
    finally:
        second.stop()


def test_webhooks_by_calls(front: World, service: Client) -> None:
    made = service.add_webhook("https://example.org/hook", [EventType.FAILED])
    hook = made.webhook
    assert made.secret.startswith("whsec_")
    assert service.webhooks().items == [service.webhook(hook.id)] == [hook]
    assert service.enable_webhook(hook.id, False).enabled is False
    assert service.enable_webhook(hook.id).enabled is True
    assert service.filter_webhook(hook.id, None).events is None
    assert service.filter_webhook(hook.id, ["job.failed"]).events == [EventType.FAILED]
    rotated = service.rotate_webhook_secret(hook.id)
    assert rotated.secret != made.secret
    assert rotated.previous_until is not None
    # Nothing is sent: a name under .invalid has no address.
    ping = service.test_webhook(service.add_webhook("https://hook.invalid/").webhook.id)
    assert ping.type == "webhook.ping"
    assert [one.id for one in service.deliveries(ping.webhook_id).items] == [ping.id]
    assert service.replay_delivery(ping.webhook_id, ping.id).id == ping.id
    service.remove_webhook(hook.id)
    with pytest.raises(ProblemError):
        service.webhook(hook.id)


def test_making_an_endpoint_is_never_sent_twice(server: Live) -> None:
    wire = FaultyWire()
    wire._faults += [wire.answer_lost]
    with Client(server.url, api_key=server.key, transport=wire) as service:
        with pytest.raises(ServiceUnreachable):
            service.add_webhook("https://example.org/hook")
        assert len(service.webhooks().items) == 1
    assert [request.method for request in wire.requests] == ["POST", "GET"]


def test_what_is_no_event_is_a_broken_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "PATIENCE_SECONDS", 0.1)
    stream = httpx.MockTransport(lambda _: httpx.Response(200, text="data: {}\n\n"))
    with (
        Client("http://test", transport=stream) as service,
        pytest.raises(ServiceUnreachable),
    ):
        next(service.events("job_1"))
