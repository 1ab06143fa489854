"""Webhooks: signed, tried on the schedule, delivered at least once, and never to a wrong place."""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from front_world import SECRET_NAME, World, make_world, world
from sqlalchemy import text
from standardwebhooks import WebhookVerificationError
from webhook_world import Clock, Receiver, receiving

from api_schemas.webhooks import DeliveryFailure, DeliveryPage
from registry import deliveries
from registry.tables import AuditRow
from service import webhooks as routes
from service.delivery import CLAIM_SECONDS, EACH, THREADS, Courier
from service.parts import Parts, now
from service.sealing import Sealer, UnreadableSecret

#: The loops of the front sleep; the tests deliver by hand, by their own clock.
QUIET = {"webhook_seconds": 3600.0, "webhook_allow_private": True}


@pytest.fixture
def front(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, **QUIET) as made:
        yield made


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def add(http: TestClient, url: str, **changes: Any) -> tuple[str, str]:
    answer = http.post("/webhooks", json={"url": url} | changes)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert answer.headers["location"] == f"/webhooks/{made['webhook']['id']}"
    return made["webhook"]["id"], made["secret"]


def deliver(parts: Parts, clock: Callable[[], datetime] = now) -> None:
    """One round, and all that came of it."""
    with Courier(parts, clock) as courier:
        courier.deliver()


def log(http: TestClient, webhook_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http.get(f"/webhooks/{webhook_id}/deliveries").json()["items"]
    return found


def eventually(condition: Callable[[], object], seconds: float = 15) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def outcomes(made: World) -> dict[str, float]:
    counter = made.parts.measures.webhook_deliveries
    return {word: counter.labels(word)._value.get() for word in ("delivered", "failed", "dead")}


def test_a_message_is_signed_and_says_what_happened(
    front: World, http: TestClient, receiver: Receiver
) -> None:
    _, secret = add(http, receiver.url, events=["job.accepted", "job.succeeded"])
    job = front.finished()
    deliver(front.parts)
    assert sorted(got.content["type"] for got in receiver.got) == ["job.accepted", "job.succeeded"]
    done = next(got for got in receiver.got if got.content["type"] == "job.succeeded")
    assert done.verified(secret) == done.content
    data = done.content["data"]
    assert (data["job_id"], data["status"], data["outcome"]) == (job.id, "succeeded", "patched")
    assert (data["patch_id"], data["model_version"]) == (job.patch_id, 1)
    for name in ("self", "events", "patch", "weights"):
        assert http.get(data["urls"][name]).status_code == 200
    assert not any(SECRET_NAME.encode() in got.body for got in receiver.got)
    # The negative controls: another secret and another body are no signature.
    with pytest.raises(WebhookVerificationError):
        done.verified(routes._new_secret())
    done.body += b" "
    with pytest.raises(WebhookVerificationError):
        done.verified(secret)
    assert outcomes(front) == {"delivered": 2, "failed": 0, "dead": 0}
    assert 'razor_webhook_deliveries_total{outcome="dead"} 0.0' in http.get("/metrics").text


def test_attempts_follow_the_schedule_and_end(
    front: World, http: TestClient, receiver: Receiver
) -> None:
    webhook_id, _ = add(http, receiver.url)
    receiver.statuses = [500]
    front.accept()
    clock = Clock()
    pauses = deliveries.SCHEDULE_SECONDS
    assert [pause / 3600 for pause in pauses[3:]] == [0.5, 2, 5, 10, 14, 20, 24]
    for number, pause in enumerate(pauses, start=1):
        if pause:
            clock.move(pause - 0.5)
            deliver(front.parts, clock)
            assert len(receiver.got) == number - 1
            clock.move(0.5)
        deliver(front.parts, clock)
        deliver(front.parts, clock)
        assert len(receiver.got) == number
        (one,) = log(http, webhook_id)
        following = None if number == len(pauses) else clock() + timedelta(seconds=pauses[number])
        page = DeliveryPage.model_validate({"items": [one], "next": None})
        assert page.items[0].next_attempt_at == following
    assert one["status"] == "dead"
    assert [attempt["status_code"] for attempt in one["attempts"]] == [500] * 10
    assert len({got.id for got in receiver.got}) == 1
    assert len({got.body for got in receiver.got}) == 1
    assert outcomes(front) == {"delivered": 0, "failed": 9, "dead": 1}
    clock.move(10**6)
    deliver(front.parts, clock)
    assert len(receiver.got) == 10
    # Replayed: the same message, under the same id, until the receiver has it.
    receiver.statuses = [503, 204]
    answer = http.post(f"/webhooks/{webhook_id}/deliveries/{one['id']}/replay")
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    for _ in range(2):
        clock.move(5)
        deliver(front.parts, clock)
    assert {got.id for got in receiver.got} == {one["id"]}
    (one,) = log(http, webhook_id)
    assert (one["status"], one["next_attempt_at"]) == ("delivered", None)
    assert [attempt["number"] for attempt in one["attempts"]] == list(range(1, 13))


def test_a_receiver_that_is_gone_is_disabled(
    front: World, http: TestClient, receiver: Receiver
) -> None:
    webhook_id, _ = add(http, receiver.url)
    front.accept()
    receiver.statuses = [500]
    deliver(front.parts)
    receiver.statuses = [410, 200]
    assert http.post(f"/webhooks/{webhook_id}/test").status_code == 202
    deliver(front.parts)
    view = http.get(f"/webhooks/{webhook_id}").json()
    assert (view["enabled"], view["disabled_reason"]) == (False, "gone")
    waiting = [one for one in log(http, webhook_id) if one["status"] == "pending"]
    assert [one["next_attempt_at"] for one in waiting] == [None]
    front.claim()
    for path in ("test", f"deliveries/{waiting[0]['id']}/replay"):
        answer = http.post(f"/webhooks/{webhook_id}/{path}")
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/webhook-disabled")
    clock = Clock()
    clock.move(10**6)
    deliver(front.parts, clock)
    assert len(receiver.got) == 2
    # Enabled again, what waited is sent; what happened meanwhile was not kept.
    http.patch(f"/webhooks/{webhook_id}", json={"enabled": True})
    deliver(front.parts)
    assert [got.content["type"] for got in receiver.got[2:]] == ["job.accepted"]


def test_while_it_overlaps_both_secrets_sign(
    front: World, http: TestClient, receiver: Receiver
) -> None:
    webhook_id, old = add(http, receiver.url)
    answer = http.post(f"/webhooks/{webhook_id}/rotate-secret")
    assert answer.headers["cache-control"] == "no-store"
    new = answer.json()["secret"]
    assert new != old
    http.post(f"/webhooks/{webhook_id}/test")
    deliver(front.parts)
    for secret in (old, new):
        assert receiver.got[0].verified(secret)["type"] == "webhook.ping"
    later = now() + routes.OVERLAP + timedelta(minutes=1)
    http.post(f"/webhooks/{webhook_id}/test")
    deliver(front.parts, lambda: later)
    assert len(receiver.got[0].headers["webhook-signature"].split()) == 2
    assert len(receiver.got[1].headers["webhook-signature"].split()) == 1


def test_secrets_are_shown_once_and_stored_sealed(
    front: World, http: TestClient, receiver: Receiver
) -> None:
    webhook_id, secret = add(http, receiver.url)
    assert secret.startswith("whsec_")
    key = front.parts.settings.webhook_key
    assert key.stat().st_mode & 0o777 == 0o600
    for path in ("/webhooks", f"/webhooks/{webhook_id}"):
        assert secret not in http.get(path).text
    with front.parts.database.transaction() as session:
        stored = session.execute(text("SELECT secrets FROM webhooks")).scalar_one()
        details = [row.details for row in session.query(AuditRow) if row.object_type == "webhook"]
    assert secret not in str(stored)
    assert secret.removeprefix("whsec_") not in str(stored)
    assert details == [{}]
    sealed = Sealer(key).seal(secret)
    assert Sealer(key).open(sealed) == secret
    with pytest.raises(UnreadableSecret):
        Sealer(key.with_name("gone")).open(sealed)
    other = Sealer(key.with_name("other"))
    other.seal("x")
    with pytest.raises(UnreadableSecret):
        other.open(sealed)
    # Without its key a message fails and says why; nothing is sent unsigned.
    object.__setattr__(front.parts, "sealer", other)
    front.accept()
    deliver(front.parts)
    assert receiver.got == []
    assert log(http, webhook_id)[0]["attempts"][0]["failure"] == "secret_unreadable"


def test_two_loops_at_once_deliver_once(front: World, http: TestClient, receiver: Receiver) -> None:
    add(http, receiver.url, events=["job.accepted"])
    made = {front.accept() for _ in range(6)}
    receiver.hold = threading.Event()
    threads = [threading.Thread(target=deliver, args=(front.parts,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    # Two loops have a turn, of four and of two messages, and wait for the first answer.
    eventually(lambda: len(receiver.got) == 2)
    receiver.hold.set()
    for thread in threads:
        thread.join()
    assert len(receiver.got) == 6
    assert {got.content["data"]["job_id"] for got in receiver.got} == made


def test_a_message_whose_sender_died_is_sent_again(
    front: World, http: TestClient, receiver: Receiver
) -> None:
    webhook_id, _ = add(http, receiver.url)
    front.accept()
    clock = Clock()  # after the job: its message is due already
    with front.parts.database.transaction() as session:
        (dead,) = deliveries.claim(
            session, endpoints=9, each=9, lease_seconds=CLAIM_SECONDS, now=clock()
        )
    deliver(front.parts, clock)
    assert receiver.got == []
    clock.move(CLAIM_SECONDS)
    deliver(front.parts, clock)
    assert [got.id for got in receiver.got] == [dead.id]
    with front.parts.database.transaction() as session:
        late = deliveries.Result(status_code=500)
        assert deliveries.settle(session, dead.id, dead.token, late, now=clock()) is None
    assert log(http, webhook_id)[0]["status"] == "delivered"
    assert receiver.url not in repr(dead)


def test_a_front_that_restarts_delivers_what_was_due(tmp_path: Path, receiver: Receiver) -> None:
    settings = {"webhook_seconds": 0.02, "webhook_allow_private": True}
    with world(tmp_path, **settings) as first:
        assert first.http is not None
        _, secret = add(first.http, receiver.url)
        receiver.statuses = [503]
        job_id = first.accept()
        eventually(lambda: outcomes(first)["failed"] == 1)
    receiver.statuses = [200]
    with TestClient(make_world(tmp_path, **settings).app):
        eventually(lambda: len(receiver.got) >= 2)
    assert len({got.id for got in receiver.got}) == 1
    assert receiver.got[-1].verified(secret)["data"]["job_id"] == job_id


class Slow:
    """In the place of the sender: one address hangs until it may answer, all others answer."""

    def __init__(self, front: World, *hanging: str) -> None:
        self.may_answer = threading.Event()
        self.heard: dict[str, list[str]] = defaultdict(list)
        self._hanging = hanging
        object.__setattr__(front.parts, "sender", self)

    def post(self, url: str, _: object, body: bytes) -> deliveries.Result:
        self.heard[url].append(json.loads(body)["data"]["job_id"])
        if url in self._hanging and not self.may_answer.wait(60):
            return deliveries.Result(failure=DeliveryFailure.TIMED_OUT)
        return deliveries.Result(status_code=200)


def test_a_receiver_that_hangs_keeps_nothing_from_the_others(
    front: World, http: TestClient
) -> None:
    """Round after round goes to the others, and all that time it has one message."""
    slow, quick = (f"http://127.0.0.1:{port}/" for port in (1, 2))
    sender = Slow(front, slow)
    with Courier(front.parts) as courier:
        for url in (slow, quick):
            add(http, url)
        made = []
        for count in range(1, EACH + 2):
            made.append(front.accept())
            courier.deliver()
            eventually(lambda count=count: len(sender.heard[quick]) == count)
            eventually(lambda: sum(not turn.done() for turn in courier._turns.values()) == 1)
        assert (sender.heard[slow], sender.heard[quick]) == (made[:1], made)
        sender.may_answer.set()
        eventually(lambda: courier.deliver() or len(sender.heard[slow]) == len(made))
    assert sender.heard[slow] == made, "each once, and in order"


def test_no_more_endpoints_are_sent_to_at_once_than_there_are_threads(
    front: World, http: TestClient
) -> None:
    hanging = [f"http://127.0.0.1:{port}/" for port in range(1, THREADS + 3)]
    sender = Slow(front, *hanging)
    with Courier(front.parts) as courier:
        for url in hanging:
            add(http, url)
        front.accept()
        for _ in range(3):
            courier.deliver()
        eventually(lambda: len(sender.heard) == THREADS)
        sender.may_answer.set()
        eventually(lambda: courier.deliver() or len(sender.heard) == len(hanging))
    assert {len(heard) for heard in sender.heard.values()} == {1}


def test_after_silence_the_rest_of_a_turn_waits_for_the_next(
    front: World, http: TestClient
) -> None:
    """One that hangs costs a thread one wait a turn, not one for each of its messages."""
    url = "http://127.0.0.1:1/"
    webhook_id, _ = add(http, url)
    made = [front.accept() for _ in range(3)]
    silent = Slow(front)
    silent.post = lambda *_: deliveries.Result(failure=DeliveryFailure.TIMED_OUT)  # type: ignore[method-assign]
    clock = Clock()
    deliver(front.parts, clock)
    tried = [len(one["attempts"]) for one in reversed(log(http, webhook_id))]
    assert tried == [1, 0, 0]
    again = Slow(front)
    deliver(front.parts, clock)  # at the same moment: they were given back
    assert again.heard[url] == made[1:]


def test_a_stopping_front_gives_back_what_it_took(
    front: World, http: TestClient, receiver: Receiver
) -> None:
    add(http, receiver.url)
    front.accept()
    front.parts.stopping.set()
    deliver(front.parts)
    assert receiver.got == []
    front.parts.stopping.clear()
    deliver(front.parts)
    assert len(receiver.got) == 1


def test_an_event_that_is_not_kept_is_not_told(
    front: World, http: TestClient, receiver: Receiver
) -> None:
    webhook_id, _ = add(http, receiver.url)
    job_id = front.accept()
    deliver(front.parts)

    def fails() -> None:
        with front.parts.database.transaction() as session:
            session.execute(text("UPDATE jobs SET phase = 'x'"))
            from registry import jobs

            jobs.cancel(session, job_id, tenant=None, principal="p", now=now())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    deliver(front.parts)
    assert len(receiver.got) == len(log(http, webhook_id)) == 1


# The calls.


def test_endpoints_are_listed_changed_and_removed(front: World, http: TestClient) -> None:
    first, _ = add(http, "https://example.org/a?token=t")
    second, _ = add(http, "https://example.org/b", events=["job.failed"])
    assert [one["id"] for one in http.get("/webhooks").json()["items"]] == [first, second]
    path = f"/webhooks/{second}"
    changed = http.patch(path, json={"enabled": False}).json()
    assert (changed["enabled"], changed["disabled_reason"]) == (False, "by_caller")
    assert changed["events"] == ["job.failed"]
    assert http.patch(path, json={"events": None}).json()["events"] is None
    assert http.get(path).json()["enabled"] is False
    assert http.patch(path, json={}).json() == http.get(path).json()
    front.accept()
    assert (len(log(http, first)), log(http, second)) == (1, [])
    assert http.delete(f"/webhooks/{first}").status_code == 204
    for method, rest in (("GET", ""), ("DELETE", ""), ("GET", "/deliveries"), ("POST", "/test")):
        answer = http.request(method, f"/webhooks/{first}{rest}")
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/webhook-not-found")
    assert [one["id"] for one in http.get("/webhooks").json()["items"]] == [second]


def test_deliveries_come_page_by_page(front: World, http: TestClient) -> None:
    webhook_id, _ = add(http, "https://example.org/a")
    made = [front.accept() for _ in range(5)]
    path: str | None = f"/webhooks/{webhook_id}/deliveries?limit=2"
    found: list[str] = []
    while path is not None:
        answer = http.get(path)
        found += [one["job_id"] for one in answer.json()["items"]]
        path = answer.links["next"]["url"] if "next" in answer.links else None
    assert found == made[::-1]
    wrong = http.get(f"/webhooks/{webhook_id}/deliveries?cursor=nothing")
    assert (wrong.status_code, wrong.json()["type"]) == (400, "/problems/invalid-cursor")


def test_a_tenant_has_only_so_many(front: World, http: TestClient) -> None:
    for number in range(20):
        add(http, f"https://example.org/{number}")
    answer = http.post("/webhooks", json={"url": "https://example.org/more"})
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/too-many-webhooks")


WRONG: tuple[tuple[Any, str], ...] = (
    ({}, "/url"),
    ({"url": "ftp://example.org/"}, "/url"),
    ({"url": "https:///path"}, "/url"),
    ({"url": "https://example.org:99999/"}, "/url"),
    ({"url": "https://user:word@example.org/"}, "/url"),
    ({"url": "https://example.org/#part"}, "/url"),
    ({"url": "https://exa mple.org/"}, "/url"),
    ({"url": "https://ex\u00e4mple.org/"}, "/url"),
    ({"url": f"https://example.org/{'x' * 2000}"}, "/url"),
    ({"url": "https://example.org/", "events": []}, "/events"),
    ({"url": "https://example.org/", "events": ["job.exploded"]}, "/events/0"),
    ({"url": "https://example.org/", "secret": "mine"}, "/secret"),
)


def test_wrong_endpoints_are_refused(http: TestClient) -> None:
    for body, pointer in WRONG:
        answer = http.post("/webhooks", json=body)
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-request")
        assert answer.json()["errors"][0]["pointer"] == pointer
    assert http.get("/webhooks").json()["items"] == []


def test_what_is_no_json_is_told_so(http: TestClient) -> None:
    headers = {"content-type": "application/json"}
    for content, status, slug in (
        (b"{", 400, "malformed-json"),
        (b'"\xff"', 400, "bad-request"),
        (b"", 422, "invalid-request"),
    ):
        answer = http.post("/webhooks", content=content, headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}")
