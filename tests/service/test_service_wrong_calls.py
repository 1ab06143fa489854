"""Every way to get a call wrong, route by route: the problem that each must give.

``POST /unlearn`` has a table of its own in test_service_bad_input.py, and so has the OpenDSR
facade, which answers in another form, in test_service_opendsr_bad_input.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from front_world import MODEL, SECRET_NAME, World, every_route, world
from starlette.routing import Match
from test_service_bad_input import CASES as UNLEARN

from api_schemas.problems import MEDIA_TYPE, Problem
from api_schemas.reports import Verdict
from service import problems
from service.opendsr import refusals

#: An id that nobody has.
NO_JOB = "/jobs/job_00000000000000000000000000000000"
NO_PATCH = "/patches/pat_00000000000000000000000000000000"
NO_HOOK = "/webhooks/whk_00000000000000000000000000000000"
HOOK = {"url": "https://example.org/hook"}
TYPES = {"events": ["job.succeeded", "job.begun"]}
FAR = {"Range": "bytes=99999999999-"}


@dataclass(frozen=True)
class Call:
    """A wrong call, and the problem it is. The path may hold ids of ``places``."""

    method: str
    path: str
    status: int
    slug: str
    pointers: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    json: Any = None

    @property
    def name(self) -> str:
        return f"{self.method} {self.path[:60]}"


NOWHERE = "not-found"
JOB, PENDING, ABSENT = "job-not-found", "evaluation-pending", "evaluation-absent"
PATCH, RANGE = "patch-not-found", "range-not-satisfiable"
WEBHOOK = "webhook-not-found"
VERSION = "version-not-found"
VERSIONS = f"/models/{MODEL}/versions"
METHOD, INVALID, CURSOR = "method-not-allowed", "invalid-request", "invalid-cursor"

CALLS = [
    Call("GET", "/nowhere", 404, NOWHERE),
    Call("GET", "/jobs/", 404, NOWHERE),
    Call("GET", "/unlearn", 405, METHOD),
    # The list of jobs.
    Call("GET", "/jobs?cursor=nonsense", 400, CURSOR),
    Call("GET", "/jobs?cursor=WyJ4Il0", 400, CURSOR),
    Call("GET", "/jobs?cursor=" + "A" * 512, 400, CURSOR),
    Call("GET", "/jobs?cursor=%00", 400, CURSOR),
    Call("GET", "/jobs?cursor=" + "A" * 513, 422, INVALID, ["/query/cursor"]),
    Call("GET", "/jobs?limit=0", 422, INVALID, ["/query/limit"]),
    Call("GET", "/jobs?limit=101", 422, INVALID, ["/query/limit"]),
    Call("GET", "/jobs?limit=x", 422, INVALID, ["/query/limit"]),
    Call("GET", "/jobs?status=done", 422, INVALID, ["/query/status"]),
    Call("GET", "/jobs?model=..", 422, INVALID, ["/query/model"]),
    Call("GET", "/jobs?stauts=queued", 422, INVALID, ["/query/stauts"]),
    Call("GET", f"/jobs?{SECRET_NAME}=1", 422, INVALID, ["/query"]),
    Call("DELETE", "/jobs", 405, METHOD),
    # One job.
    Call("GET", NO_JOB, 404, JOB),
    Call("GET", "/jobs/job_1", 404, JOB),
    Call("GET", "/jobs/%00", 404, JOB),
    Call("GET", "/jobs/..%2F..", 404, NOWHERE),
    Call("GET", f"/jobs/{SECRET_NAME}", 404, JOB),
    Call("GET", f"{NO_JOB}?wait=61", 422, INVALID, ["/query/wait"]),
    Call("GET", f"{NO_JOB}?wait=-1", 422, INVALID, ["/query/wait"]),
    Call("GET", f"{NO_JOB}?wait=nan", 422, INVALID, ["/query/wait"]),
    Call("GET", "/jobs/{queued}?wiat=1", 422, INVALID, ["/query/wiat"]),
    Call("PUT", "/jobs/{queued}", 405, METHOD),
    Call("POST", f"{NO_JOB}/cancel", 404, JOB),
    Call("POST", "/jobs/job_1/cancel", 404, JOB),
    Call("POST", "/jobs/{done}/cancel", 409, "job-finished"),
    Call("POST", "/jobs/{failed}/cancel", 409, "job-finished"),
    Call("GET", "/jobs/{queued}/cancel", 405, METHOD),
    # What people decide about it.
    Call("POST", f"{NO_JOB}/retry", 404, JOB),
    Call("POST", "/jobs/{done}/retry", 409, "job-succeeded"),
    Call("POST", "/jobs/{queued}/retry", 409, "job-unfinished"),
    Call("POST", "/jobs/{failed}/retry", 409, "personal-data-gone"),
    Call("POST", f"{NO_JOB}/approve", 404, JOB),
    Call("POST", "/jobs/{queued}/approve", 409, "not-awaiting-approval"),
    Call("POST", "/jobs/{queued}/decline", 409, "not-awaiting-approval"),
    Call("POST", "/jobs/{queued}/extend", 422, INVALID, [""]),
    Call("POST", "/jobs/job_1/extend", 404, JOB),
    # What it found out.
    Call("GET", f"{NO_JOB}/evaluation", 404, JOB),
    Call("GET", "/jobs/job_1/evaluation", 404, JOB),
    Call("GET", "/jobs/{queued}/evaluation", 404, PENDING),
    Call("GET", "/jobs/{failed}/evaluation", 404, ABSENT),
    Call("GET", f"{NO_JOB}/report.html", 404, JOB),
    Call("GET", "/jobs/job_1/report.html", 404, JOB),
    Call("GET", "/jobs/{queued}/report.html", 404, PENDING),
    Call("GET", "/jobs/{failed}/report.html", 404, ABSENT),
    Call("POST", "/jobs/{done}/report.html", 405, METHOD),
    # Its history.
    Call("GET", f"{NO_JOB}/events", 404, JOB),
    Call("GET", "/jobs/{done}/events?after=-1", 422, INVALID, ["/query/after"]),
    Call("GET", "/jobs/{done}/events?limit=0", 422, INVALID, ["/query/limit"]),
    Call("GET", "/jobs/{done}/events?since=1", 422, INVALID, ["/query/since"]),
    Call(
        "GET",
        "/jobs/{done}/events",
        400,
        "invalid-last-event-id",
        headers={"Last-Event-ID": "x"},
    ),
    Call("GET", f"{NO_JOB}/events", 404, JOB, headers={"Accept": "text/event-stream"}),
    # Its evidence.
    Call("GET", f"{NO_JOB}/evidence", 404, JOB),
    Call("GET", "/jobs/{queued}/evidence", 404, "evidence-absent"),
    Call("GET", "/jobs/{failed}/evidence", 404, "evidence-absent"),
    Call("GET", "/jobs/{refused}/evidence", 404, "evidence-absent"),
    Call("HEAD", f"{NO_JOB}/evidence", 404, JOB),
    Call("HEAD", "/jobs/{refused}/evidence", 404, "evidence-absent"),
    Call("DELETE", "/jobs/{done}/evidence", 405, METHOD),
    # The audit log.
    Call("GET", "/audit?after=-1", 422, INVALID, ["/query/after"]),
    Call("GET", "/audit?limit=0", 422, INVALID, ["/query/limit"]),
    Call("GET", "/audit?limit=1001", 422, INVALID, ["/query/limit"]),
    Call("GET", "/audit?until=1", 422, INVALID, ["/query/until"]),
    Call("DELETE", "/audit", 405, METHOD),
    Call("POST", "/audit/checkpoint", 405, METHOD),
    Call("GET", "/audit/proof/99999999", 404, "line-not-found"),
    Call("GET", "/audit/proof/x", 404, "line-not-found"),
    Call("GET", "/audit/proof/{line}?size=0", 422, INVALID, ["/query/size"]),
    Call("GET", "/audit/proof/{line}?size=99999999", 400, "tree-size-invalid"),
    Call("GET", "/audit/consistency?from=-1", 422, INVALID, ["/query/from"]),
    Call("GET", "/audit/consistency?from=0&to=x", 422, INVALID, ["/query/to"]),
    Call("GET", "/audit/consistency?from=2&to=1", 400, "tree-size-invalid"),
    Call("PUT", "/audit/key", 405, METHOD),
    # The shelf.
    Call("DELETE", "/models", 405, METHOD),
    Call("GET", "/models/none", 404, "model-not-found"),
    Call("GET", "/models/%00", 404, "model-not-found"),
    Call("GET", f"/models/{SECRET_NAME}", 404, "model-not-found"),
    Call("GET", "/models/none/versions", 404, "model-not-found"),
    Call("POST", "/methods", 405, METHOD),
    Call("POST", "/models", 422, INVALID, [""]),
    Call("GET", "/models/none/versions/0/weights", 404, "model-not-found"),
    Call("GET", f"{VERSIONS}/99/weights", 404, VERSION),
    Call("GET", f"{VERSIONS}/x/weights", 404, VERSION),
    Call("GET", f"{VERSIONS}/0/weights", 416, RANGE, headers=FAR),
    Call("HEAD", f"{VERSIONS}/99/weights", 404, VERSION),
    Call("POST", f"{VERSIONS}/x/revoke", 404, VERSION),
    Call("POST", f"{VERSIONS}/1/revoke", 422, INVALID, [""]),
    # Patches and weights.
    Call("GET", NO_PATCH, 404, PATCH),
    Call("GET", "/patches/pat_1", 404, PATCH),
    Call("GET", f"{NO_PATCH}/patch.safetensors", 404, PATCH),
    Call("GET", "/patches/{patch}/patch.safetensors", 416, RANGE, headers=FAR),
    Call("HEAD", f"{NO_PATCH}/patch.safetensors", 404, PATCH),
    Call("GET", f"{NO_PATCH}/weights", 404, PATCH),
    Call("GET", "/patches/..%2F..%2Fetc%2Fpasswd/weights", 404, NOWHERE),
    Call("GET", "/patches/{patch}/weights", 416, RANGE, headers=FAR),
    Call("HEAD", f"{NO_PATCH}/weights", 404, PATCH),
    Call("PUT", "/patches/{patch}/weights", 405, METHOD),
    # Webhooks.
    Call("POST", "/webhooks", 422, INVALID, ["/url"], json={}),
    Call("POST", "/webhooks", 422, INVALID, ["/url"], json={"url": "example.org"}),
    Call("POST", "/webhooks", 422, INVALID, ["/url"], json={"url": "http://example.org/"}),
    Call("POST", "/webhooks", 422, INVALID, ["/url"], json={"url": "https://127.0.0.1/"}),
    Call("POST", "/webhooks", 422, INVALID, ["/url"], json={"url": "https://a:b@example.org/"}),
    Call("POST", "/webhooks", 422, INVALID, ["/events"], json=HOOK | {"events": []}),
    Call("POST", "/webhooks", 422, INVALID, ["/events/1"], json=HOOK | TYPES),
    Call("POST", "/webhooks", 422, INVALID, ["/secret"], json=HOOK | {"secret": "mine"}),
    Call("DELETE", "/webhooks", 405, METHOD),
    Call("PUT", "/webhooks", 405, METHOD),
    Call("GET", NO_HOOK, 404, WEBHOOK),
    Call("GET", "/webhooks/whk_1", 404, WEBHOOK),
    Call("DELETE", NO_HOOK, 404, WEBHOOK),
    Call("PATCH", NO_HOOK, 404, WEBHOOK, json={"enabled": False}),
    Call("PATCH", "/webhooks/{hook}", 422, INVALID, ["/enabled"], json={"enabled": "perhaps"}),
    Call("PATCH", "/webhooks/{hook}", 422, INVALID, ["/url"], json=HOOK),
    Call("POST", f"{NO_HOOK}/rotate-secret", 404, WEBHOOK),
    Call("POST", f"{NO_HOOK}/test", 404, WEBHOOK),
    Call("POST", "/webhooks/{disabled}/test", 409, "webhook-disabled"),
    Call("GET", f"{NO_HOOK}/deliveries", 404, WEBHOOK),
    Call("GET", "/webhooks/{hook}/deliveries?limit=0", 422, INVALID, ["/query/limit"]),
    Call("GET", "/webhooks/{hook}/deliveries?cursor=x", 400, CURSOR),
    Call("POST", f"{NO_HOOK}/deliveries/msg_{'0' * 32}/replay", 404, WEBHOOK),
    Call("POST", "/webhooks/{hook}/deliveries/msg_1/replay", 404, "delivery-not-found"),
    # The service itself: it asks for nothing, so only the method can be wrong.
    Call("GET", "/problems/none", 404, NOWHERE),
    Call("GET", f"/problems/{SECRET_NAME}", 404, NOWHERE),
    Call("POST", "/healthz", 405, METHOD),
    Call("POST", "/readyz", 405, METHOD),
    Call("POST", "/version", 405, METHOD),
    Call("POST", "/metrics", 405, METHOD),
]
#: What may be sent again: the answer may be another one then.
RETRYABLE = {PENDING}


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One front for the whole table: each call leaves it as it was."""
    # The loops of the front sleep: what they do would look like a trace of the call.
    asleep = dict.fromkeys(("recovery_seconds", "sweep_seconds", "webhook_seconds"), 3600.0)
    with world(tmp_path_factory.mktemp("wrong-calls"), **asleep) as made:
        yield made


@pytest.fixture(scope="module")
def places(front: World) -> dict[str, str]:
    """Ids of one job in each state, and of a patch."""
    assert front.http is not None
    done, refused = front.finished(), front.finished(Verdict.FAIL)
    front.accept()
    failed = front.fail(front.claim())
    assert done.patch_id is not None
    hook, disabled = (front.http.post("/webhooks", json=HOOK).json() for _ in range(2))
    silenced = f"/webhooks/{disabled['webhook']['id']}"
    assert front.http.patch(silenced, json={"enabled": False}).status_code == 200
    queued = front.accept()
    front.until_sent()
    return {
        "hook": hook["webhook"]["id"],
        "disabled": disabled["webhook"]["id"],
        "done": done.id,
        "refused": refused.id,
        "failed": failed.id,
        "queued": queued,
        "patch": done.patch_id,
        "line": str(front.http.get("/audit?limit=1").json()["items"][0]["index"]),
    }


def routes_of(method: str, path: str) -> list[APIRoute]:
    """The route that answers this call; else those at its address that take other methods."""
    path = unquote(path.partition("?")[0])
    scope = {"type": "http", "method": method, "path": path, "headers": []}
    matches = [(route.matches(scope)[0], route) for route in every_route()]
    full = [route for match, route in matches if match is Match.FULL]
    return full[:1] or [route for match, route in matches if match is Match.PARTIAL]


@pytest.mark.parametrize("call", CALLS, ids=[call.name for call in CALLS])
def test_a_wrong_call_gives_its_problem(front: World, places: dict[str, str], call: Call) -> None:
    assert front.http is not None
    before = front.stored()
    path = call.path.format(**places)
    answer = front.http.request(call.method, path, headers=call.headers, json=call.json)
    assert answer.status_code == call.status, answer.text
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert front.stored() == before
    if call.method == "HEAD":
        return
    problem = Problem.model_validate_json(answer.content)
    assert problem.type == problems.PREFIX + call.slug
    assert [wrong.pointer for wrong in problem.errors] == call.pointers
    assert problem.retryable is (call.slug in RETRYABLE)
    for part in SECRET_NAME.split():
        assert part not in answer.text
    if call.slug == METHOD:
        assert call.method not in answer.headers["allow"].split(", ")
        assert answer.headers["allow"]


@pytest.mark.parametrize("call", CALLS, ids=[call.name for call in CALLS])
def test_the_document_says_so(front: World, places: dict[str, str], call: Call) -> None:
    """The problem is among those that the document lists for that call."""
    if call.slug == METHOD or not (routes := routes_of(call.method, call.path.format(**places))):
        return
    (route,) = routes
    answers = document(front)[call.method.lower(), route.path]["responses"]
    listed = answers[str(call.status)]["content"][MEDIA_TYPE]["examples"]
    assert call.slug in listed, f"add {call.slug} to problems_of() of {call.method} {route.path}"


def document(front: World) -> dict[tuple[str, str], dict[str, Any]]:
    paths: dict[str, Any] = front.app.openapi()["paths"]
    return {(method, path): op for path, methods in paths.items() for method, op in methods.items()}


def test_what_unlearn_refuses_is_in_the_document(front: World) -> None:
    answers = document(front)["post", "/unlearn"]["responses"]
    for case in UNLEARN:
        listed = answers[str(case.status)]["content"][MEDIA_TYPE]["examples"]
        assert case.slug in listed


def test_every_route_has_a_wrong_call(places: dict[str, str]) -> None:
    had = {("POST", "/unlearn")}
    for call in CALLS:
        for route in routes_of(call.method, call.path.format(**places)):
            own = {call.method} & (route.methods or set()) or route.methods or set()
            had |= {(method, route.path) for method in own}
    every = {(method, route.path) for route in every_route() for method in route.methods or ()}
    assert len(every) > 20
    elsewhere = {place for place in every if refusals.belongs(place[1])}
    lacking = sorted(every - had - elsewhere)
    assert not lacking, f"add a wrong call to CALLS in {__file__} for each of {lacking}"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/unlearn", "POST"),
        ("DELETE", "/jobs", "GET"),
        ("PUT", "/patches/pat_0/weights", "GET, HEAD"),
        ("POST", "/healthz", "GET"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(
    front: World, method: str, path: str, allow: str
) -> None:
    assert front.http is not None
    assert front.http.request(method, path).headers["allow"] == allow


def test_the_right_calls_beside_them_are_answered(front: World, places: dict[str, str]) -> None:
    """The negative control: what the wrong calls start from is right."""
    http: TestClient | None = front.http
    assert http is not None
    for path in ("/jobs", "/jobs/{queued}", "/jobs/{done}/report.html", "/patches/{patch}"):
        assert http.get(path.format(**places)).status_code == 200
    assert http.post(f"/jobs/{places['queued']}/cancel").status_code == 200
