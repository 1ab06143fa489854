"""Nobody gets in without a key, nobody does more than its scopes, nobody sees another tenant."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from front_world import (
    MODEL,
    World,
    as_files,
    bearer,
    fields,
    make_world,
    pictures,
    register,
    world,
)
from opendsr_world import DOMAIN, new_id, sent
from sqlalchemy import select

from api_schemas.access import Scope
from api_schemas.opendsr import RefusalAnswer
from api_schemas.problems import MEDIA_TYPE, Problem
from api_schemas.tenants import TenantSettings
from registry import key_texts, keys, tenants
from registry.settings import Settings
from registry.tables import KeyRow
from service import guard, logs
from service.__main__ import warn_if_public
from service.buckets import Buckets
from service.opendsr import refusals
from service.parts import now

#: Every route that asks nobody who calls. A route that is not here asks.
OPEN = {
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/version"),
    ("GET", "/metrics"),
    ("GET", "/problems/{slug}"),
    ("GET", "/openapi.json"),
    ("HEAD", "/openapi.json"),
    ("GET", "/opendsr/v1/discovery"),
    ("GET", "/opendsr/v2/discovery"),
    ("GET", "/opendsr/v2/certificate"),
}
#: What each parameter of a path names. A new one needs its line: of a tenant's own objects, or of
#: what all tenants share.
OWN: dict[str, Callable[[World], str]] = {
    "job_id": lambda made: job_of(made)["id"],
    "patch_id": lambda made: job_of(made)["result"]["patch_id"],
    "subject_request_id": lambda made: subject_request_of(made),
    "webhook_id": lambda made: webhook_of(made),
    "delivery_id": lambda made: delivery_of(made),
    "index": lambda made: str(first(made, "/audit?limit=1")["index"]),
}
SHARED = {"model_id": MODEL, "slug": "not-found", "number": "0"}
#: What is sent along where nothing is no answer.
BODIES = {
    ("PATCH", "/webhooks/{webhook_id}"): {"enabled": True},
    ("POST", "/jobs/{job_id}/extend"): {"reason": "complexity"},
}


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One front with one finished job of the tenant ``default``."""
    root = tmp_path_factory.mktemp("access")
    # Nothing is sent to the addresses that are told here.
    silent = {"webhook_seconds": 3600.0, "opendsr_seconds": 3600.0}
    with world(root, opendsr_domain=DOMAIN, **silent) as made:
        made.finished()
        yield made


@pytest.fixture
def http(front: World) -> TestClient:
    assert front.http is not None
    return front.http


def first(made: World, page: str) -> dict[str, Any]:
    assert made.http is not None
    found: dict[str, Any] = made.http.get(page).json()["items"][0]
    return found


def subject_request_of(made: World) -> str:
    """One that is still pending."""
    assert made.http is not None
    return sent(made.http)


def job_of(made: World) -> dict[str, Any]:
    return first(made, "/jobs?status=succeeded")


def webhook_of(made: World) -> str:
    """The tenant's webhook, made anew where a call has removed it."""
    assert made.http is not None
    if not made.http.get("/webhooks").json()["items"]:
        made.http.post("/webhooks", json={"url": "https://example.org/hook"})
    return str(first(made, "/webhooks")["id"])


def delivery_of(made: World) -> str:
    assert made.http is not None
    return str(made.http.post(f"/webhooks/{webhook_of(made)}/test").json()["id"])


def every_route(routes: Any) -> Iterator[tuple[str, str]]:
    """Method and path of every route, those of routers within routers too."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from every_route(inner.routes)
        else:
            for method in route.methods:
                yield method, route.path


def guarded(made: World) -> list[tuple[str, str]]:
    found = set(every_route(made.app.routes))
    assert found > OPEN, "an open route that is listed is not there"
    return sorted(found - OPEN)


def address(made: World, path: str) -> str:
    """The path with ids of what is there."""
    for name in re.findall(r"{(\w+)}", path):
        value = OWN[name](made) if name in OWN else SHARED[name]
        path = path.replace(f"{{{name}}}", value)
    return path


def call(
    http: TestClient,
    method: str,
    place: str,
    headers: dict[str, str] | None = None,
    body: dict[str, Any] | None = None,
) -> Any:
    return http.request(method, place, headers=headers, json=body)


def documented(document: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    """What the document says about this call, or about the one that it is another name of."""
    if path not in document:
        assert refusals.belongs(path), path
        name = path.removesuffix("/status").replace("opengdpr_requests", "requests")
        path = name.replace("/v1/", "/v2/")
    found: dict[str, Any] = document[path][method.lower()]
    return found


def told(answer: Any) -> tuple[str, list[str]]:
    """The type of the problem, and what is said of each field, in the form of its address."""
    if not refusals.belongs(answer.request.url.path):
        problem = Problem.model_validate_json(answer.content)
        return slug(answer), [wrong.detail for wrong in problem.errors]
    assert answer.headers["content-type"] == "application/json"
    found = RefusalAnswer.model_validate_json(answer.content, extra="forbid").error
    assert found.code == answer.status_code
    (domain,) = {one.domain for one in found.errors}
    return domain, [one.message.rpartition(": ")[2] for one in found.errors]


def is_there(answer: Any) -> bool:
    """Something is at this address for this caller, even if it cannot be done now."""
    if answer.status_code == 400:
        return told(answer)[0] == "subject-request-not-pending"
    return answer.status_code in (200, 202, 204, 409)


def slug(answer: Any) -> str:
    assert answer.headers["content-type"] == MEDIA_TYPE
    return Problem.model_validate_json(answer.content).type.removeprefix("/problems/")


def test_every_route_that_is_not_open_asks_for_a_key(front: World, http: TestClient) -> None:
    assert len(guarded(front)) >= 13
    for method, path in guarded(front):
        http_ = TestClient(front.app)  # without the default key
        answer = http_.request(method, address(front, path))
        assert (method, path, answer.status_code) == (method, path, 401)
        assert answer.headers["www-authenticate"] == guard.CHALLENGE
        if method != "HEAD":
            assert told(answer)[0] == "unauthenticated"


def test_open_routes_answer_without_a_key(front: World) -> None:
    for method, path in OPEN:
        answer = TestClient(front.app).request(method, address(front, path))
        assert (path, answer.status_code) == (path, 200)


def test_a_key_without_scopes_may_do_nothing(front: World, http: TestClient) -> None:
    document = http.get("/openapi.json").json()["paths"]
    headers = bearer(front.new_key())
    for method, path in guarded(front):
        answer = http.request(method, address(front, path), headers=headers)
        assert (method, path, answer.status_code) == (method, path, 403)
        if method == "HEAD":
            continue
        ((needed,),) = [one["bearer"] for one in documented(document, method, path)["security"]]
        assert f'scope="{needed}"' in answer.headers["www-authenticate"]
        words = [f"This call needs the scope {needed}."]
        assert told(answer) == ("insufficient-scope", words)


def test_another_tenants_objects_are_not_there(front: World, http: TestClient) -> None:
    stranger = bearer(front.new_key(*Scope, tenant="stranger"))
    seen = 0
    for method, path in guarded(front):
        if not any(f"{{{name}}}" in path for name in OWN):
            continue
        place = address(front, path)
        body = BODIES.get((method, path))
        answer = call(http, method, place, stranger, body)
        assert (method, path, answer.status_code) == (method, path, 404)
        nobodys = re.sub(r"[0-9a-f]{32}|(?<=/proof/)\d+", "0" * 32, place)
        nobodys = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", new_id(), nobodys)
        assert nobodys != place
        other = call(http, method, nobodys, stranger, body)
        one, two = (answer.text, other.text) if method != "HEAD" else ("{}", "{}")
        for key in ("type", "detail", "title", "error"):
            assert json.loads(one).get(key) == json.loads(two).get(key)
        # The negative control: for its own tenant it is there.
        assert is_there(call(http, method, place, body=body)), (method, path)
        seen += 1
    assert seen >= 8
    assert http.get("/jobs", headers=stranger).json()["items"] == []
    assert http.get("/models", headers=stranger).json() == http.get("/models").json()


def test_each_scope_opens_its_routes_and_admin_opens_all(front: World, http: TestClient) -> None:
    document = http.get("/openapi.json").json()["paths"]
    headers = {scope.value: bearer(front.new_key(scope)) for scope in Scope}
    for method, path in guarded(front):
        (needed,) = documented(document, method, path)["security"][0]["bearer"]
        place = address(front, path)
        for scope, header in headers.items():
            answer = http.request(method, place, headers=header)
            allowed = scope in (needed, Scope.ADMIN)
            assert (path, scope, answer.status_code != 403) == (path, scope, allowed)


def wrong_headers(made: World) -> dict[str, str | bytes]:
    key, (other_id, other) = made.new_key(*Scope), key_texts.new()
    body = made.key[4:14] + "0" * 43
    yesterday = now() - timedelta(days=1)
    return {
        "empty": "",
        "only the scheme": "Bearer",
        "only the scheme and a space": "Bearer ",
        "another scheme": f"Basic {key}",
        "no scheme": key,
        "two keys": f"Bearer {key} {key}",
        "a comma": f"Bearer {key},",
        "cut": f"Bearer {key[:-1]}",
        "mistyped": f"Bearer {key[:20]}{'0' if key[20] != '0' else '1'}{key[21:]}",
        "never made": f"Bearer {other}",
        "right id, wrong secret": f"Bearer rzr_{body}{key_texts._checksum(body)}",
        "the id alone": f"Bearer {other_id}",
        "expired": f"Bearer {made.new_key(*Scope, expires_at=yesterday)}",
        "revoked": f"Bearer {revoked(made)}",
        "its digest": f"Bearer {key_texts.digest(key)}",
        "not ASCII": b"Bearer rzr_\xe9\xff",
        "huge": "Bearer " + "a" * 20_000,
        "a token of nobody": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.",
    }


def revoked(made: World) -> str:
    text = made.new_key(*Scope)
    with made.parts.database.transaction() as session:
        keys.revoke(session, text[4:14], actor="operator", now=now())
    return text


def test_every_wrong_key_gets_the_same_answer(
    front: World, http: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    answers = []
    table = wrong_headers(front)
    for name, header in table.items():
        answer = http.get("/jobs", headers={"Authorization": header, "X-Request-ID": "same"})
        assert (name, answer.status_code, slug(answer)) == (name, 401, "unauthenticated")
        answers.append((answer.content, sorted(answer.headers.items())))
    assert all(answer == answers[0] for answer in answers)
    written = "".join(logs.JsonLines().format(record) for record in caplog.records)
    assert "/jobs" in written
    assert "rzr_" not in written
    assert http.get("/jobs").status_code == 200


def test_guessing_is_slow_and_callers_at_work_go_on(tmp_path: Path) -> None:
    with world(tmp_path, auth_failures_per_minute=3) as made:
        assert made.http is not None
        fresh = made.new_key(*Scope)
        assert made.http.get("/jobs").status_code == 200
        for _ in range(10):  # no key is no guess
            assert made.http.get("/jobs", headers={"Authorization": ""}).status_code == 401
        statuses = [
            made.http.get("/jobs", headers=bearer(key_texts.new()[1])).status_code for _ in range(5)
        ]
        assert statuses == [401, 401, 401, 429, 429]
        right = made.http.get("/jobs", headers=bearer(fresh))
        assert (right.status_code, slug(right)) == (429, "rate-limited")
        assert 1 <= int(right.headers["retry-after"]) <= 20
        assert made.http.get("/jobs").status_code == 200
        elsewhere = TestClient(made.app, client=("198.51.100.7", 1))
        assert elsewhere.get("/jobs", headers=bearer(fresh)).status_code == 200


def settle(made: World, tenant: str, **settings: Any) -> None:
    with made.parts.database.transaction() as session:
        tenants.ensure(session, tenant, actor="operator", now=now())
        tenants.change(session, tenant, TenantSettings(**settings), actor="operator", now=now())


def test_a_key_that_asks_too_often_waits_and_others_do_not(front: World, http: TestClient) -> None:
    busy, calm = (bearer(front.new_key(*Scope, tenant="busy")) for _ in range(2))
    settle(front, "busy", requests_per_minute=2)
    answers = [http.get("/models", headers=busy) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert slug(answers[2]) == "rate-limited"
    assert answers[2].json()["retryable"]
    assert 1 <= int(answers[2].headers["retry-after"]) <= 30
    assert http.get("/models", headers=calm).status_code == 200
    assert http.get("/models").status_code == 200


def test_buckets_refill_at_their_rate_and_hold_no_more_than_a_minute() -> None:
    time = [0.0]
    buckets = Buckets(clock=lambda: time[0])
    assert [buckets.take("a", 60) for _ in range(61)] == [0] * 60 + [1]
    assert buckets.wait_seconds("b", 60) == 0
    time[0] = 0.5
    assert buckets.take("a", 60) == 1
    time[0] = 1.0
    assert buckets.take("a", 60) == 0
    time[0] = 10_000.0
    assert [buckets.take("a", 60) for _ in range(61)] == [0] * 60 + [1]
    assert [buckets.take("slow", 1) for _ in range(2)] == [0, 60]


def test_buckets_forget_who_was_quiet_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.buckets._MAX_BUCKETS", 2)
    buckets = Buckets(clock=lambda: 0.0)
    for name in ("a", "b", "c"):
        assert buckets.take(name, 1) == 0
    assert [buckets.wait_seconds(name, 1) for name in ("a", "b", "c")] == [0, 60, 60]


def test_one_line_of_the_internet_is_one_guesser() -> None:
    same = {guard._network(f"2001:db8:1:2::{number:x}") for number in range(9)}
    assert len(same) == 1
    assert guard._network("2001:db8:1:3::1") not in same
    assert guard._network("::ffff:192.0.2.1") == guard._network("192.0.2.1")
    assert guard._network("192.0.2.1") != guard._network("192.0.2.2")


def post(http: TestClient, headers: dict[str, str], **changes: Any) -> Any:
    body = {"request": json.dumps(fields(**changes))}
    return http.post("/unlearn", data=body, files=as_files(pictures(3)), headers=headers)


def test_a_quota_is_told_with_the_time_and_leaves_nothing(tmp_path: Path) -> None:
    with world(tmp_path, relay_seconds=3600.0) as made:  # what it takes away is no trace
        assert made.http is not None
        settle(made, "default", max_queued_jobs=1)
        headers = bearer(made.key)
        first = post(made.http, {**headers, "Idempotency-Key": "a"})
        assert first.status_code == 202
        before = made.stored()
        refused = post(made.http, headers, seed=2)
        assert (refused.status_code, slug(refused)) == (429, "quota-exceeded")
        assert refused.headers["retry-after"] == "60"
        assert made.stored() == before
        # A repetition is no new job.
        again = post(made.http, {**headers, "Idempotency-Key": "a"})
        assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
        other = bearer(made.new_key(Scope.UNLEARN_WRITE, tenant="other"))
        assert post(made.http, other).status_code == 202
        settle(made, "default", max_jobs_per_day=1)
        daily = post(made.http, headers, seed=3)
        assert 86_000 < int(daily.headers["retry-after"]) <= 86_400


def test_one_idempotency_key_of_two_tenants_is_two_jobs(front: World, http: TestClient) -> None:
    same = {"Idempotency-Key": "both"}
    ours, theirs = bearer(front.new_key(*Scope)), bearer(front.new_key(*Scope, tenant="second"))
    ids = [post(http, headers | same).json()["id"] for headers in (ours, theirs, ours, theirs)]
    assert ids[:2] == ids[2:]
    assert ids[0] != ids[1]
    assert http.get(f"/jobs/{ids[0]}", headers=theirs).status_code == 404
    assert http.get(f"/jobs/{ids[1]}", headers=theirs).status_code == 200


def test_a_request_writes_down_a_keys_use_but_not_every_time(
    front: World, http: TestClient
) -> None:
    text = front.new_key(Scope.UNLEARN_READ)
    used = []
    for _ in range(3):
        assert http.get("/models", headers=bearer(text)).status_code == 200
        with front.parts.database.reading() as session:
            used.append(
                session.scalars(select(KeyRow.last_used_at).where(KeyRow.id == text[4:14])).one()
            )
    assert used[0] is not None
    assert used == [used[0]] * 3


def test_the_job_is_of_whoever_sent_it(front: World, http: TestClient) -> None:
    text = front.new_key(Scope.UNLEARN_WRITE, tenant="third")
    job_id = post(http, bearer(text)).json()["id"]
    assert front.job(job_id).tenant == "third"


def test_a_front_without_any_key_admits_nobody(tmp_path: Path) -> None:
    made = make_world(tmp_path)
    with TestClient(made.app) as http:
        register(made)
        for headers in ({}, bearer(key_texts.new()[1])):
            assert http.get("/models", headers=headers).status_code == 401


def test_every_guarded_operation_documents_its_refusals(http: TestClient) -> None:
    document = http.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            closed = (method.upper(), path) not in OPEN
            assert ("security" in operation) is closed
            assert ({"401", "403", "429"} <= operation["responses"].keys()) is closed
    both = document["paths"]["/unlearn"]["post"]["responses"]["429"]
    examples = both["content"][MEDIA_TYPE]["examples"]
    assert set(examples) == {"rate-limited", "quota-exceeded"}


def test_a_public_address_is_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    for host, warnings in (("127.0.0.1", 0), ("::1", 0), ("localhost", 0), ("0.0.0.0", 1)):
        caplog.clear()
        warn_if_public(Settings(host=host))
        assert len(caplog.records) == warnings
