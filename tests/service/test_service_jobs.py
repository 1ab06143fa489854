"""``/jobs``: tags, long polls, pages, cancelling, the evaluation."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient
from front_world import MODEL, SECRET_NAME, World, register

from api_schemas.jobs import JobPage, JobStatus, JobView, Outcome
from api_schemas.reports import Report, Verdict


def test_a_job_is_tagged_and_unchanged_until_it_changes(front: World, http: TestClient) -> None:
    path = f"/jobs/{front.accept()}"
    first = http.get(path)
    tag = {"If-None-Match": first.headers["etag"]}
    unchanged = http.get(path, headers=tag)
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["etag"] == first.headers["etag"]
    several = {"If-None-Match": f'"x", W/{first.headers["etag"]}'}
    assert http.get(path, headers=several).status_code == 304
    front.claim()
    changed = http.get(path, headers=tag)
    assert changed.status_code == 200
    assert changed.headers["etag"] != first.headers["etag"]
    assert changed.json()["status"] == "running"


@pytest.mark.parametrize(
    ("verdict", "status", "outcome"),
    [
        (Verdict.PASS, JobStatus.SUCCEEDED, Outcome.PATCHED),
        (Verdict.PARTIAL, JobStatus.REJECTED, Outcome.GATE_REFUSED),
    ],
)
def test_a_finished_job_leads_to_what_it_left(
    front: World, http: TestClient, verdict: Verdict, status: JobStatus, outcome: Outcome
) -> None:
    job = front.finished(verdict)
    view = JobView.model_validate(http.get(f"/jobs/{job.id}").json())
    assert (view.status, view.outcome) == (status, outcome)
    assert view.result is not None
    assert view.result.verdict is verdict
    assert view.result.patch_id == job.patch_id
    assert view.result.model_version == (1 if verdict is Verdict.PASS else None)
    urls = view.urls
    for url in (urls.self, urls.evaluation, urls.patch, urls.patch_file, urls.weights):
        assert url is not None
        assert http.get(url).status_code == 200
    assert urls.evidence == (f"{urls.self}/evidence" if verdict is Verdict.PASS else None)
    assert http.get(f"{urls.self}/evidence").status_code == (200 if urls.evidence else 404)
    report = Report.model_validate(http.get(urls.evaluation).json())
    assert report.gate is not None
    assert report.gate.verdict is verdict


def test_a_failed_job_says_why_and_leaves_nothing(front: World, http: TestClient) -> None:
    front.accept()
    job = front.fail(front.claim())
    view = http.get(f"/jobs/{job.id}").json()
    assert (view["status"], view["error"]["code"]) == ("failed", "out_of_memory")
    assert view["result"] is None
    assert view["urls"]["patch"] is None
    answer = http.get(f"/jobs/{job.id}/evaluation")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/evaluation-absent")
    assert answer.json()["retryable"] is False


def test_an_evaluation_is_pending_until_the_job_ends(front: World, http: TestClient) -> None:
    job_id = front.accept()
    answer = http.get(f"/jobs/{job_id}/evaluation")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/evaluation-pending")
    assert answer.json()["retryable"] is True
    front.finish(front.claim())
    answer = http.get(f"/jobs/{job_id}/evaluation")
    assert answer.status_code == 200
    tag = {"If-None-Match": answer.headers["etag"]}
    assert http.get(f"/jobs/{job_id}/evaluation", headers=tag).status_code == 304


# Long polls.


def soon(action: Callable[[], object], seconds: float = 0.3) -> threading.Timer:
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer


def test_a_long_poll_ends_with_the_first_change(front: World, http: TestClient) -> None:
    job_id = front.accept()
    started = time.monotonic()
    timer = soon(front.claim)
    view = http.get(f"/jobs/{job_id}?wait=20").json()
    timer.join()
    assert view["status"] == "running"
    assert 0.2 < time.monotonic() - started < 10
    job = front.job(job_id)
    timer = soon(lambda: front.progress(job, phase="scores", fraction=0.4))
    view = http.get(f"/jobs/{job_id}?wait=20").json()
    timer.join()
    assert (view["progress"]["phase"], view["progress"]["fraction"]) == ("scores", 0.4)


def test_a_long_poll_without_a_change_ends_in_time(front: World, http: TestClient) -> None:
    path = f"/jobs/{front.accept()}?wait=0.5"
    started = time.monotonic()
    first = http.get(path)
    assert first.status_code == 200
    assert http.get(path, headers={"If-None-Match": first.headers["etag"]}).status_code == 304
    assert 1.0 <= time.monotonic() - started < 8


def test_a_long_poll_misses_no_change(front: World, http: TestClient) -> None:
    job_id = front.accept()
    seen = http.get(f"/jobs/{job_id}").headers["etag"]
    front.claim()
    started = time.monotonic()
    answer = http.get(f"/jobs/{job_id}?wait=20", headers={"If-None-Match": seen})
    assert answer.json()["status"] == "running"
    assert time.monotonic() - started < 5


def test_nobody_waits_for_a_finished_job_or_for_a_stopping_service(
    front: World, http: TestClient
) -> None:
    job = front.finished()
    waiting = front.accept()
    started = time.monotonic()
    assert http.get(f"/jobs/{job.id}?wait=20").status_code == 200
    soon(front.parts.stopping.set)
    assert http.get(f"/jobs/{waiting}?wait=20").status_code == 200
    assert time.monotonic() - started < 10


def test_waiting_clients_hold_no_threads(front: World, http: TestClient) -> None:
    """More clients wait than the thread pool has threads, and the front still answers."""
    job_id = front.accept()
    clients = 45
    with ThreadPoolExecutor(clients) as pool:
        waiting = [pool.submit(http.get, f"/jobs/{job_id}?wait=20") for _ in range(clients)]
        time.sleep(0.5)
        started = time.monotonic()
        assert http.get("/models").status_code == 200
        assert time.monotonic() - started < 5
        front.claim()
        assert {answer.result().json()["status"] for answer in waiting} == {"running"}


# Cancelling.


def test_cancelling_is_idempotent_and_refused_when_the_job_is_finished(
    front: World, http: TestClient
) -> None:
    queued = front.accept()
    for _ in range(2):
        answer = http.post(f"/jobs/{queued}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "canceled")
    running = front.accept()
    front.claim()
    for _ in range(2):
        answer = http.post(f"/jobs/{running}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "canceling")
    front.fail(front.job(running))
    answer = http.post(f"/jobs/{running}/cancel")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/job-finished")
    unknown = http.post("/jobs/job_00000000000000000000000000000000/cancel")
    assert unknown.status_code == 404


# Pages.


def collect(http: TestClient, path: str) -> list[str]:
    """Every id, following ``Link`` headers."""
    found: list[str] = []
    while True:
        answer = http.get(path)
        page = JobPage.model_validate(answer.json())
        found += [job.id for job in page.items]
        if page.next is None:
            assert "link" not in answer.headers
            return found
        path = answer.links["next"]["url"]


def test_pages_are_complete_newest_first_and_keep_their_filters(
    front: World, http: TestClient
) -> None:
    register(front, "other")
    made = [front.accept(model=MODEL if number % 2 else "other") for number in range(7)]
    assert collect(http, "/jobs") == made[::-1]
    assert collect(http, "/jobs?limit=2") == made[::-1]
    assert collect(http, "/jobs?limit=2&model=other") == made[::-2]
    http.post(f"/jobs/{made[3]}/cancel")
    assert collect(http, "/jobs?limit=1&status=canceled") == [made[3]]
    assert collect(http, "/jobs?model=nothing") == []


def test_pages_are_stable_while_jobs_come_in(front: World, http: TestClient) -> None:
    made = [front.accept() for _ in range(4)]
    first = http.get("/jobs?limit=2")
    front.accept()
    rest = collect(http, first.links["next"]["url"])
    assert [job["id"] for job in first.json()["items"]] + rest == made[::-1]


def test_no_view_of_a_job_shows_its_target(front: World, http: TestClient) -> None:
    job_id = front.accept()
    assert SECRET_NAME in front.job(job_id).request.target.name
    for path in ("/jobs", f"/jobs/{job_id}"):
        assert "Quillon" not in http.get(path).text
    front.finish(front.claim())
    for path in ("/jobs", f"/jobs/{job_id}", f"/jobs/{job_id}/evaluation", "/metrics"):
        assert "Quillon" not in http.get(path).text
