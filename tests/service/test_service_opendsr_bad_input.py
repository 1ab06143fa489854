"""Every way to get the OpenDSR facade wrong: its form of error, and not a trace of the request."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from front_world import SECRET_NAME, World, every_route, register, world
from opendsr_world import (
    CALLBACK,
    DOMAIN,
    REQUESTS,
    SECRET_IDENTITY,
    V2,
    entry,
    post,
    subject_request,
)
from test_service_wrong_calls import routes_of

from api_schemas.families import Family
from api_schemas.opendsr import RefusalAnswer
from registry.errors import JobNotFound
from service import logs
from service.opendsr import refusals

MAX_BODY = 100_000
OTHER_FAMILY = "painter"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One front for the whole table: each case leaves it as it was."""
    root: Path = tmp_path_factory.mktemp("opendsr-bad-input")
    settings = {"max_body_bytes": MAX_BODY, "opendsr_seconds": 3600.0}
    with world(root, opendsr_domain=DOMAIN, **settings) as made:
        register(made, OTHER_FAMILY, Family.DIFFUSION)
        yield made


@pytest.fixture
def http(front: World) -> TestClient:
    assert front.http is not None
    return front.http


@dataclass
class Case:
    """What is sent, and what is wrong with it: the type of problem, and (field, reason) pairs."""

    name: str
    body: Any
    domain: str = "invalid-request"
    wrong: list[tuple[str, str]] = field(default_factory=list)
    status: int = 400
    path: str = REQUESTS
    headers: dict[str, str] = field(default_factory=lambda: JSON)


def identity(**changes: str) -> list[dict[str, str]]:
    good = {"identity_type": "email", "identity_value": "x", "identity_format": "raw"}
    return [good | changes]


def with_entry(**changes: Any) -> dict[str, Any]:
    return subject_request(extensions={DOMAIN: entry(**changes)})


def wrong_url(url: str) -> dict[str, Any]:
    return subject_request(status_callback_urls=[CALLBACK, url])


UNSUPPORTED = "unsupported-request-type"
TYPE = [("/subject_request_type", "unsupported_request_type")]
ID = "/subject_request_id"
TIME = "/submitted_time"
URL = "/status_callback_urls/1"
HERE = f"/extensions/{DOMAIN}"
#: Whom nobody asked about. Written out: two processes that share the tests must name them alike.
NOBODYS = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
UPPER = NOBODYS.upper()
VERSION_1 = "a7551968-d5d6-11b2-9831-815ac9017798"

CASES = [
    # The envelope.
    Case("no JSON", b"{", "malformed-json"),
    Case("no UTF-8", b'{"regulation": "\xff"}', "malformed-json"),
    Case("nothing", b"", "malformed-json"),
    Case("a list", [subject_request()], wrong=[("", "model_type")]),
    Case("a form", b"x=1", "json-only", status=415,
         headers={"Content-Type": "application/x-www-form-urlencoded"}),
    Case("no type", json.dumps(subject_request()).encode(), "json-only", status=415, headers={}),
    Case("compressed", b"x", "json-only", status=415,
         headers=JSON | {"Content-Encoding": "gzip"}),
    Case("too large", subject_request(api_version="2" * MAX_BODY), "body-too-large", status=413),
    Case("unknown field", subject_request() | {"regulaton": "gdpr"},
         wrong=[("/regulaton", "extra_forbidden")]),
    Case("a name as field", subject_request() | {SECRET_NAME: 1}, wrong=[("", "extra_forbidden")]),
    # Its fields.
    Case("no regulation", subject_request(regulation=None), wrong=[("/regulation", "missing")]),
    Case("another law", subject_request(regulation="lgpd"), wrong=[("/regulation", "enum")]),
    Case("another law under version 1", subject_request(regulation="lgpd"),
         wrong=[("/regulation", "enum")], path="/opendsr/v1/opengdpr_requests"),
    Case("portability", subject_request(subject_request_type="portability"), UNSUPPORTED, TYPE),
    Case("access", subject_request(subject_request_type="access"), UNSUPPORTED, TYPE),
    Case("access under version 1", subject_request(subject_request_type="access"), UNSUPPORTED,
         TYPE, path=f"{V2}/opengdpr_requests"),
    Case("another type", subject_request(subject_request_type="rectification"),
         wrong=[("/subject_request_type", "enum")]),
    Case("no type of request", subject_request(subject_request_type=None),
         wrong=[("/subject_request_type", "missing")]),
    Case("no id", subject_request(subject_request_id=None), wrong=[(ID, "missing")]),
    Case("id in upper case", subject_request(subject_request_id=UPPER),
         wrong=[(ID, "string_pattern_mismatch")]),
    Case("id of version 1", subject_request(subject_request_id=VERSION_1),
         wrong=[(ID, "string_pattern_mismatch")]),
    Case("id and a line", subject_request(subject_request_id=NOBODYS + "\n"),
         wrong=[(ID, "string_pattern_mismatch")]),
    Case("a name as id", subject_request(subject_request_id=SECRET_NAME),
         wrong=[(ID, "string_pattern_mismatch")]),
    Case("no time", subject_request(submitted_time=None), wrong=[(TIME, "missing")]),
    Case("a number as time", subject_request(submitted_time=1772366400), wrong=[(TIME, "moment")]),
    Case("a date", subject_request(submitted_time="2026-03-01"), wrong=[(TIME, "moment")]),
    Case("no zone", subject_request(submitted_time="2026-03-01T12:00:00"),
         wrong=[(TIME, "moment")]),
    Case("the 31st of February", subject_request(submitted_time="2026-02-31T12:00:00Z"),
         wrong=[(TIME, "datetime_from_date_parsing")]),
    Case("another version", subject_request(api_version="3.0"),
         wrong=[("/api_version", "string_pattern_mismatch")]),
    Case("another identity", subject_request(subject_identities=identity(identity_type="face")),
         wrong=[("/subject_identities/0/identity_type", "enum")]),
    Case("another format", subject_request(subject_identities=identity(identity_format="rot13")),
         wrong=[("/subject_identities/0/identity_format", "enum")]),
    Case("a long identity", subject_request(subject_identities=identity(identity_value="x" * 1001)),
         wrong=[("/subject_identities/0/identity_value", "string_too_long")]),
    Case("many identities", subject_request(subject_identities=identity() * 101),
         wrong=[("/subject_identities", "too_long")]),
    # The addresses to call back.
    Case("http", wrong_url("http://controller.example/"), wrong=[(URL, "string_pattern_mismatch")]),
    Case("a file", wrong_url("file:///etc/passwd"), wrong=[(URL, "string_pattern_mismatch")]),
    Case("no host", wrong_url("https:///x"), wrong=[(URL, "callback_url")]),
    Case("a password", wrong_url("https://me:secret@controller.example/"),
         wrong=[(URL, "callback_url")]),
    Case("a fragment", wrong_url("https://controller.example/#x"), wrong=[(URL, "callback_url")]),
    Case("a backslash", wrong_url("https://controller.example\\@other.example/"),
         wrong=[(URL, "callback_url")]),
    Case("port 0", wrong_url("https://controller.example:0/"), wrong=[(URL, "callback_url")]),
    Case("no port", wrong_url("https://controller.example:x/"), wrong=[(URL, "callback_url")]),
    Case("a new line", wrong_url("https://controller.example/\n"),
         wrong=[(URL, "string_pattern_mismatch")]),
    Case("a long one", wrong_url("https://controller.example/" + "x" * 2000),
         wrong=[(URL, "string_too_long")]),
    Case("many addresses", subject_request(status_callback_urls=[CALLBACK] * 11),
         wrong=[("/status_callback_urls", "too_long")]),
    # What stands under our domain.
    Case("no extensions", subject_request(extensions=None), wrong=[("/extensions", "missing")]),
    Case("only another's", subject_request(extensions={"other.example": entry()}),
         wrong=[("/extensions", "missing")]),
    Case("text under ours", subject_request(extensions={DOMAIN: SECRET_NAME}),
         wrong=[("/extensions", "dict_type")]),
    Case("a credential", with_entry(api_key="s3cr3t"),
         wrong=[(f"{HERE}/api_key", "extra_forbidden")]),
    Case("a law again", with_entry(regulation="none"),
         wrong=[(f"{HERE}/regulation", "extra_forbidden")]),
    Case("an id again", with_entry(subject_request_id="case-17"),
         wrong=[(f"{HERE}/subject_request_id", "extra_forbidden")]),
    Case("a trial", with_entry(dry_run=True), wrong=[(f"{HERE}/dry_run", "extra_forbidden")]),
    Case("no model", with_entry(model=None), wrong=[(f"{HERE}/model", "missing")]),
    Case("a path as model", with_entry(model="../x"),
         wrong=[(f"{HERE}/model", "string_pattern_mismatch")]),
    Case("unknown model", with_entry(model="nobody-knows"), "unknown-model",
         [(f"{HERE}/model", "unknown_model")]),
    Case("no target", with_entry(target=None), wrong=[(f"{HERE}/target", "missing")]),
    Case("empty name", with_entry(target={"name": ""}),
         wrong=[(f"{HERE}/target/name", "string_too_short")]),
    Case("no samples", with_entry(samples=None), wrong=[(f"{HERE}/samples", "missing")]),
    Case("too few samples", with_entry(samples=entry()["samples"][:2]), "invalid-samples",
         [(f"{HERE}/samples", "too_few")]),
    Case("no base64", with_entry(samples=["a"] * 3),
         wrong=[(f"{HERE}/samples/{number}", "base64_decode") for number in range(3)]),
    Case("no picture", with_entry(samples=[*entry()["samples"], "aGVsbG8="]), "invalid-samples",
         [(f"{HERE}/samples/3", "not_an_image")]),
    Case("a picture twice", with_entry(samples=[*entry()["samples"], entry()["samples"][0]]),
         "invalid-samples", [(f"{HERE}/samples/3", "duplicate")]),
    Case("unknown method", with_entry(method={"method": SECRET_NAME}), "unknown-method",
         [(f"{HERE}/method/method", "union_tag_invalid")]),
    Case("method for another family", with_entry(model=OTHER_FAMILY, method={"method": "gaft"}),
         "unsupported-method", [(f"{HERE}/method/method", "unsupported_method")]),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_wrong_request_is_refused_in_the_facades_form(
    case: Case, front: World, http: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    before = front.stored()
    body = case.body if isinstance(case.body, bytes) else json.dumps(case.body).encode()
    answer = http.post(case.path, content=body, headers=case.headers)
    error = check_form(answer, case.status)
    assert {detail.domain for detail in error.errors} == {case.domain}
    found = [(_field_of(detail.message), detail.reason) for detail in error.errors]
    assert found == (case.wrong or [("", case.domain)])
    assert front.stored() == before
    assert not front.parts.broker.sent
    logged = "".join(logs.JsonLines().format(record) for record in caplog.records)
    assert "razor.http" in logged
    for part in (*SECRET_NAME.split(), *SECRET_IDENTITY.split("@"), "s3cr3t", CALLBACK):
        assert part not in answer.text
        assert part not in logged


def _field_of(message: str) -> str:
    found = re.match(r"(/\S*): ", message)
    return found[1] if found else ""


def check_form(answer: Any, status: int) -> Any:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"
    assert answer.headers["x-request-id"]
    assert list(answer.json()) == ["error"]
    error = RefusalAnswer.model_validate_json(answer.content, extra="forbid").error
    assert error.code == status
    assert all(detail.message for detail in error.errors)
    assert error.message.endswith(".")
    return error


def test_the_good_request_beside_them_is_accepted(tmp_path: Path) -> None:
    """The negative control: what the cases start from is right, and would leave traces."""
    settings = {"max_body_bytes": MAX_BODY, "opendsr_seconds": 3600.0}
    with world(tmp_path, opendsr_domain=DOMAIN, **settings) as made:
        before = made.stored()
        assert made.http is not None
        assert post(made.http, subject_request()).status_code == 201
        assert post(made.http, with_entry(model="reference-clip")).status_code == 201
        assert made.stored()["jobs"] == before["jobs"] + 2


NONE, METHOD = "subject-request-not-found", "method-not-allowed"
V1_REQUESTS, V2_FORMER = "/opendsr/v1/opengdpr_requests", f"{V2}/opengdpr_requests"
CALLS = [
    ("GET", f"{REQUESTS}/{NOBODYS}", 404, NONE),
    ("GET", f"{REQUESTS}/{NOBODYS}/status", 404, NONE),
    ("DELETE", f"{REQUESTS}/{NOBODYS}", 404, NONE),
    ("GET", f"{REQUESTS}/{UPPER}", 404, NONE),
    ("DELETE", f"{REQUESTS}/%00", 404, NONE),
    ("GET", f"{REQUESTS}/x", 404, NONE),
    ("GET", f"{V2_FORMER}/{NOBODYS}", 404, NONE),
    ("DELETE", f"{V2_FORMER}/{NOBODYS}", 404, NONE),
    ("GET", f"{V1_REQUESTS}/{NOBODYS}", 404, NONE),
    ("DELETE", f"{V1_REQUESTS}/{NOBODYS}", 404, NONE),
    ("GET", f"{V2}/{SECRET_NAME}", 404, "not-found"),
    ("GET", "/opendsr/v3/discovery", 404, "not-found"),
    ("GET", REQUESTS, 405, METHOD),
    ("PUT", f"{REQUESTS}/{NOBODYS}", 405, METHOD),
    ("POST", "/opendsr/v1/discovery", 405, METHOD),
    ("POST", f"{V2}/discovery", 405, METHOD),
    ("DELETE", f"{V2}/certificate", 405, METHOD),
]


def test_every_route_of_the_facade_has_a_wrong_call() -> None:
    calls = [(method, path) for method, path, *_ in CALLS]
    calls += [("POST", case.path) for case in CASES]
    had = set()
    for method, path in calls:
        for route in routes_of(method, path):
            own = {method} & (route.methods or set()) or route.methods or set()
            had |= {(one, route.path) for one in own}
    every = {(one, route.path) for route in every_route() for one in route.methods or ()}
    facade = {place for place in every if refusals.belongs(place[1])}
    assert len(facade) >= 13
    lacking = sorted(facade - had)
    assert not lacking, f"add a wrong call to CALLS in {__file__} for each of {lacking}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_document_says_so(front: World, case: Case) -> None:
    answers = front.app.openapi()["paths"][REQUESTS]["post"]["responses"]
    listed = answers[str(case.status)]["content"]["application/json"]["examples"]
    assert case.domain in listed, f"add {case.domain} to problems_of() of POST {REQUESTS}"


@pytest.mark.parametrize(("method", "path", "status", "domain"), CALLS)
def test_what_is_not_there_is_told_in_the_facades_form(
    http: TestClient, method: str, path: str, status: int, domain: str
) -> None:
    answer = http.request(method, path)
    error = check_form(answer, status)
    assert [detail.domain for detail in error.errors] == [domain]
    assert SECRET_NAME.split()[0] not in answer.text
    if status == 405:
        fixed = path.endswith(("/discovery", "/certificate"))
        allowed = "GET" if fixed else "POST" if path == REQUESTS else "DELETE, GET"
        assert answer.headers["allow"] == allowed


def test_a_failure_inside_is_told_in_the_facades_form(
    front: World, http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_more: object) -> None:
        raise RuntimeError(SECRET_NAME)

    monkeypatch.setattr("registry.opendsr.get", fail)
    answer = http.get(f"{REQUESTS}/{NOBODYS}")
    error = check_form(answer, 500)
    assert [detail.domain for detail in error.errors] == ["internal-error"]
    assert SECRET_NAME not in answer.text


def test_the_rest_of_the_service_keeps_its_own_form(http: TestClient) -> None:
    answer = http.get("/jobs/job_00000000000000000000000000000000")
    assert answer.json()["type"] == "/problems/job-not-found"
    assert answer.json()["detail"] == str(JobNotFound(""))
