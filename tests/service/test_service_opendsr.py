"""The OpenDSR facade: what a privacy platform sends, is answered, can verify and can cancel."""

from __future__ import annotations

import base64
import json
import logging
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from fastapi.testclient import TestClient
from front_world import PRINCIPAL, SECRET_NAME, TENANT, World, world
from opendsr_world import (
    DOMAIN,
    REQUESTS,
    SECRET_IDENTITY,
    V2,
    certificate_of,
    entry,
    new_id,
    post,
    sent,
    subject_request,
    verify,
    verify_field,
    verify_headers,
)
from sqlalchemy import update

from api_schemas.deadlines import calendar_months_after
from api_schemas.jobs import JobStatus, Outcome
from api_schemas.reports import Verdict
from registry import jobs, opendsr
from registry.opendsr import Case
from registry.tables import SubjectRequestRow
from service import logs, unlearn
from service.parts import now


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("opendsr")
    with world(root, opendsr_domain=DOMAIN, opendsr_seconds=3600.0) as made:
        yield made


@pytest.fixture
def http(front: World) -> Iterator[TestClient]:
    assert front.http is not None
    yield front.http
    # No test finds the job of another one waiting.
    while front.http.get("/jobs?status=queued").json()["items"]:
        front.finish(front.claim())


def case_of(front: World, subject_request_id: str) -> Case:
    with front.parts.database.transaction() as session:
        return opendsr.get(session, TENANT, subject_request_id)


def status_of(http: TestClient, subject_request_id: str) -> dict[str, Any]:
    answer = http.get(f"{REQUESTS}/{subject_request_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def refused(answer: Any, status: int, domain: str) -> list[str]:
    """It is an error in the specification's form; the reasons are returned."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json().keys() == {"error"}
    error = answer.json()["error"]
    assert error.keys() == {"code", "message", "errors"}
    assert error["code"] == status
    assert {detail["domain"] for detail in error["errors"]} == {domain}
    return [detail["reason"] for detail in error["errors"]]


def test_discovery_says_what_is_supported(http: TestClient) -> None:
    answer = http.get(f"{V2}/discovery")
    assert answer.status_code == 200
    assert answer.json() == {
        "api_version": "2.0",
        "supported_identities": [],
        "supported_subject_request_types": ["erasure"],
        "processor_certificate": f"http://testserver{V2}/certificate",
    }


def test_a_request_is_received_signed_and_becomes_a_job(front: World, http: TestClient) -> None:
    asked = subject_request()
    before = now()
    answer = post(http, asked)
    assert answer.status_code == 201, answer.text
    certificate = certificate_of(http)
    verify_headers(certificate, answer)
    verify_field(certificate, answer)
    receipt = answer.json()
    assert list(receipt) == [
        "controller_id",
        "expected_completion_time",
        "received_time",
        "encoded_request",
        "subject_request_id",
        "processor_signature",
    ]
    assert receipt["controller_id"] == TENANT
    assert receipt["subject_request_id"] == asked["subject_request_id"]
    assert base64.b64decode(receipt["encoded_request"]) == answer.request.content
    received = datetime.fromisoformat(receipt["received_time"])
    assert before <= received <= now()
    expected = datetime.fromisoformat(receipt["expected_completion_time"])
    assert expected == calendar_months_after(received, 1)
    job = front.job(case_of(front, asked["subject_request_id"]).job_id)
    assert job.status is JobStatus.QUEUED
    assert job.request.regulation.value == "gdpr"
    assert job.request.subject_request_id == asked["subject_request_id"]
    assert (job.due_at, len(job.samples)) == (expected, 3)
    assert job.request.wanted()[0].name == SECRET_NAME


def test_a_signature_of_other_bytes_is_found_out(http: TestClient) -> None:
    """The negative control of every verification here."""
    answer = post(http, subject_request())
    certificate = certificate_of(http)
    signature = answer.headers["X-OpenDSR-Signature"]
    for wrong in (answer.content + b" ", answer.content.replace(b"controller", b"c0ntroller")):
        with pytest.raises(InvalidSignature):
            verify(certificate, signature, wrong)
    with pytest.raises(InvalidSignature):
        verify(certificate, answer.json()["processor_signature"], answer.content)


def test_the_law_and_the_extension_set_the_deadline(http: TestClient) -> None:
    receipt = post(http, subject_request(regulation="ccpa")).json()
    received = datetime.fromisoformat(receipt["received_time"])
    expected = datetime.fromisoformat(receipt["expected_completion_time"])
    assert expected - received == timedelta(days=45)
    sooner = "2031-01-02T03:04:05Z"
    asked = subject_request(extensions={DOMAIN: entry(due_at=sooner, method={"method": "slug"})})
    assert post(http, asked).json()["expected_completion_time"] == sooner


def test_the_same_request_again_gets_the_same_answer(front: World, http: TestClient) -> None:
    asked = subject_request()
    first = post(http, asked)
    before = front.stored()
    assert post(http, asked).content == first.content
    front.finish(front.claim())
    again = post(http, asked)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["X-OpenDSR-Signature"] == first.headers["X-OpenDSR-Signature"]
    assert front.stored()["jobs"] == before["jobs"]


def left_behind(front: World) -> dict[str, int]:
    """Without the messages, which the relay takes away at a moment of its own."""
    return {name: count for name, count in front.stored().items() if name != "outbox"}


def test_the_same_id_with_another_body_is_refused(front: World, http: TestClient) -> None:
    asked = subject_request()
    assert post(http, asked).status_code == 201
    before = left_behind(front)
    for other in (
        asked | {"regulation": "ccpa"},
        asked | {"submitted_time": "2026-03-02T12:00:00Z"},
    ):
        slug = "subject-request-conflict"
        assert refused(post(http, other), 400, slug) == [slug]
    assert left_behind(front) == before


def test_requests_with_one_id_at_one_moment_make_one_job(
    front: World, http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has looked and found nothing when the first of them is written."""
    asked, barrier = subject_request(), threading.Barrier(3)
    accept = unlearn.accept

    def together(*args: Any) -> Any:
        barrier.wait(20)
        return accept(*args)

    monkeypatch.setattr(unlearn, "accept", together)
    # A limiter for one core would let one wait for the others behind it.
    front.parts.submissions.total_tokens = 3
    before = front.stored()
    answers: list[Any] = []
    bodies = [asked, asked, asked | {"regulation": "ccpa"}]
    threads = [
        threading.Thread(target=lambda body=body: answers.append(post(http, body)))
        for body in bodies
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert front.stored()["jobs"] == before["jobs"] + 1
    assert front.stored()["outbox"] <= before["outbox"] + 1
    received = [answer.content for answer in answers if answer.status_code == 201]
    conflicts = [answer for answer in answers if answer.status_code == 400]
    assert len(received) + len(conflicts) == 3
    assert len(set(received)) == 1
    assert len(conflicts) in (1, 2)


def test_the_status_follows_the_job(front: World, http: TestClient) -> None:
    subject_request_id = sent(http)
    answer = http.get(f"{REQUESTS}/{subject_request_id}")
    certificate = certificate_of(http)
    verify_headers(certificate, answer)
    pending = answer.json()
    case = case_of(front, subject_request_id)
    assert pending == {
        "controller_id": TENANT,
        "expected_completion_time": pending["expected_completion_time"],
        "subject_request_id": subject_request_id,
        "request_status": "pending",
        "api_version": "2.0",
        "extensions": {DOMAIN: {"job_id": case.job_id, "code": None, "reason": None}},
    }
    assert datetime.fromisoformat(pending["expected_completion_time"]) == case.expected_at
    alias = http.get(f"{REQUESTS}/{subject_request_id}/status")
    assert alias.content == answer.content
    job = front.claim()
    assert status_of(http, subject_request_id)["request_status"] == "in_progress"
    front.finish(job)
    assert status_of(http, subject_request_id)["request_status"] == "completed"


def test_only_a_passed_gate_completes(front: World, http: TestClient) -> None:
    for verdict in (Verdict.PARTIAL, Verdict.FAIL):
        subject_request_id = sent(http)
        first = status_of(http, subject_request_id)
        ended = front.finish(front.claim(), verdict)
        found = status_of(http, subject_request_id)
        assert found["request_status"] == "in_progress"
        note = found["extensions"][DOMAIN]
        assert note["code"] == "gate_refused"
        assert note["reason"].endswith(".")
        moved = datetime.fromisoformat(found["expected_completion_time"])
        assert moved > datetime.fromisoformat(first["expected_completion_time"])
        assert ended.finished_at is not None
        assert moved == calendar_months_after(ended.finished_at, 1)
        assert status_of(http, subject_request_id) == found


def test_a_failed_run_stays_in_progress_and_says_why(front: World, http: TestClient) -> None:
    subject_request_id = sent(http)
    front.fail(front.claim())
    found = status_of(http, subject_request_id)
    assert found["request_status"] == "in_progress"
    note = found["extensions"][DOMAIN]
    assert (note["code"], note["reason"]) == ("out_of_memory", "Use a smaller model.")


def test_whom_the_model_does_not_know_is_erased_already(front: World, http: TestClient) -> None:
    subject_request_id = sent(http)
    job = front.claim()
    with front.parts.database.transaction() as session:
        jobs.finish(
            session,
            job.id,
            job.token,
            status=JobStatus.SUCCEEDED,
            outcome=Outcome.NOTHING_TO_FORGET,
            now=now(),
        )
    found = status_of(http, subject_request_id)
    assert found["request_status"] == "completed"
    assert found["extensions"][DOMAIN]["code"] == "nothing_to_forget"


def test_what_has_begun_is_never_pending_again(front: World, http: TestClient) -> None:
    """Its worker was lost, and it waits for another one."""
    subject_request_id = sent(http)
    front.expire(front.claim())
    with front.parts.database.transaction() as session:
        jobs.reap(session, max_attempts=3, now=now())
    assert front.job(case_of(front, subject_request_id).job_id).status is JobStatus.QUEUED
    assert status_of(http, subject_request_id)["request_status"] == "in_progress"
    slug = "subject-request-not-pending"
    assert refused(http.delete(f"{REQUESTS}/{subject_request_id}"), 400, slug) == [slug]


def test_a_pending_request_can_be_cancelled_once(front: World, http: TestClient) -> None:
    subject_request_id = sent(http)
    before = now()
    answer = http.delete(f"{REQUESTS}/{subject_request_id}")
    assert answer.status_code == 202
    certificate = certificate_of(http)
    verify_headers(certificate, answer)
    verify_field(certificate, answer)
    receipt = answer.json()
    assert receipt.keys() == {
        "controller_id",
        "received_time",
        "subject_request_id",
        "processor_signature",
    }
    assert before <= datetime.fromisoformat(receipt["received_time"]) <= now()
    job = front.job(case_of(front, subject_request_id).job_id)
    assert job.status is JobStatus.CANCELED
    assert status_of(http, subject_request_id)["request_status"] == "cancelled"
    slug = "subject-request-not-pending"
    assert refused(http.delete(f"{REQUESTS}/{subject_request_id}"), 400, slug) == [slug]


def test_what_the_platform_was_told_is_cancelled_is_not_run_behind_its_back(
    tmp_path: Path,
) -> None:
    """Names and pictures are still there; only what the platform called off is refused."""
    with world(tmp_path, opendsr_domain=DOMAIN, retention_days=30) as front:
        http = front.http
        assert http is not None
        called_off = case_of(front, subject_request_id := sent(http)).job_id
        assert http.delete(f"{REQUESTS}/{subject_request_id}").status_code == 202
        answer = http.post(f"/jobs/{called_off}/retry")
        assert (answer.status_code, answer.json()["type"]) == (
            409,
            "/problems/subject-request-cancelled",
        )
        assert front.job(called_off).status is JobStatus.CANCELED
        failed = case_of(front, sent(http)).job_id
        front.fail(front.claim())
        assert http.post(f"/jobs/{failed}/retry").json()["status"] == "queued"
        ours = front.accept(retention_days=30)
        http.post(f"/jobs/{ours}/cancel")
        assert http.post(f"/jobs/{ours}/retry").json()["status"] == "queued"


@pytest.mark.parametrize("end", ["running", "canceling", "succeeded", "failed"])
def test_what_is_not_pending_cannot_be_cancelled(front: World, http: TestClient, end: str) -> None:
    subject_request_id = sent(http)
    job = front.claim()
    if end == "succeeded":
        front.finish(job)
    elif end == "failed":
        front.fail(job)
    elif end == "canceling":
        with front.parts.database.transaction() as session:
            jobs.cancel(session, job.id, tenant=TENANT, principal=PRINCIPAL, now=now())
    slug = "subject-request-not-pending"
    assert refused(http.delete(f"{REQUESTS}/{subject_request_id}"), 400, slug) == [slug]
    assert front.job(job.id).status.value == end
    if not JobStatus(end).is_final:
        assert status_of(http, subject_request_id)["request_status"] == "in_progress"
        front.finish(job)


def test_another_tenants_request_is_nobodys(front: World, http: TestClient) -> None:
    subject_request_id = sent(http, status_callback_urls=[])
    assert http.get(f"{REQUESTS}/{subject_request_id}").status_code == 200
    with front.parts.database.transaction() as session:
        session.execute(
            update(SubjectRequestRow)
            .where(SubjectRequestRow.subject_request_id == subject_request_id)
            .values(tenant="somebody-else")
        )
    slug = "subject-request-not-found"
    theirs, nobodys = (
        [
            http.request(method, f"{REQUESTS}/{name}{tail}")
            for method, tail in (("GET", ""), ("GET", "/status"), ("DELETE", ""))
        ]
        for name in (subject_request_id, new_id())
    )
    for answer, other in zip(theirs, nobodys, strict=True):
        assert refused(answer, 404, slug) == [slug]
        assert answer.content == other.content
    # And the id is free for this tenant: nothing shows that somebody else has used it.
    asked = subject_request(subject_request_id=subject_request_id)
    assert post(http, asked).status_code == 201


@pytest.mark.parametrize("base", ["/opendsr/v1", "/opendsr/v2"])
def test_the_names_of_version_1_are_honoured(front: World, http: TestClient, base: str) -> None:
    certificate = certificate_of(http)
    asked = subject_request(regulation=None, api_version="1.0")
    path = f"{base}/opengdpr_requests"
    answer = post(http, asked, path)
    assert answer.status_code == 201
    verify_headers(certificate, answer, "X-OpenGDPR")
    assert "X-OpenDSR-Signature" not in answer.headers
    job = front.job(case_of(front, asked["subject_request_id"]).job_id)
    assert job.request.regulation.value == "gdpr"
    here = f"{path}/{asked['subject_request_id']}"
    status = http.get(here)
    verify_headers(certificate, status, "X-OpenGDPR")
    assert status.json()["api_version"] == "1.0"
    cancelled = http.delete(here)
    assert cancelled.status_code == 202
    verify_headers(certificate, cancelled, "X-OpenGDPR")
    # The same request by the other name, which is the same request.
    assert status_of(http, asked["subject_request_id"])["request_status"] == "cancelled"
    assert http.get("/opendsr/v1/discovery").json()["api_version"] == "1.0"


def test_identities_are_kept_nowhere(
    front: World, http: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    asked = subject_request()
    assert post(http, asked).status_code == 201
    assert post(http, asked | {"subject_request_type": "access"}).status_code == 400
    assert status_of(http, asked["subject_request_id"])
    kept = [path for path in front.parts.settings.data_folder.rglob("*") if path.is_file()]
    assert kept
    everything = b"".join(path.read_bytes() for path in kept)
    logged = "".join(logs.JsonLines().format(record) for record in caplog.records)
    # The control: what is kept of the request is found there.
    assert asked["subject_request_id"].encode() in everything
    for form in (SECRET_IDENTITY, base64.b64encode(SECRET_IDENTITY.encode()).decode()):
        assert form.encode() not in everything
        assert form not in logged
    encoded = base64.b64encode(json.dumps(asked, indent=1).encode())
    assert encoded[:64] not in everything
    assert logging.getLogger("razor.http").name in logged
    assert SECRET_NAME not in logged
