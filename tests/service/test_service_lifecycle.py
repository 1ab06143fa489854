"""Decisions on a job over HTTP: who may, when, with which reasons."""

from __future__ import annotations

import json
from datetime import datetime

from fastapi.testclient import TestClient
from front_world import TENANT, World, as_files, fields, pictures, unlearn_request
from sqlalchemy import update

from api_schemas.deadlines import extended_deadline, statutory_deadline
from api_schemas.reports import Verdict
from api_schemas.requests import Regulation
from api_schemas.tenants import TenantSettings
from registry import keys, personal, tenants
from registry.tables import JobRow
from service.parts import now

OTHER = "somebody else"


def post(http: TestClient, job_id: str, what: str, **body: object) -> tuple[int, str]:
    """The status of the answer, and the job's status or the problem's slug."""
    answer = http.post(f"/jobs/{job_id}/{what}", json=body or None)
    found = answer.json()
    return answer.status_code, found.get("type", "").rpartition("/")[2] or found["status"]


def own_principal(front: World) -> str:
    with front.parts.database.transaction() as session:
        holder = keys.authenticate(session, front.key, now=now())
    assert holder is not None
    return holder.key.principal


def test_another_approves_and_the_requester_cannot(front: World, http: TestClient) -> None:
    own, job_id = (
        front.accept(principal=who, approval_required=True) for who in (own_principal(front), OTHER)
    )
    for what in ("approve", "decline"):
        assert post(http, own, what) == (403, "own-request")
    view = http.get(f"/jobs/{job_id}").json()
    assert (view["status"], view["approval"]["decision"]) == ("awaiting_approval", None)
    for _ in range(2):
        assert post(http, job_id, "approve", reason="identity_verified") == (200, "queued")
    view = http.get(f"/jobs/{job_id}").json()
    assert (view["approval"]["decision"], view["approval"]["reason"]) == (
        "approved",
        "identity_verified",
    )
    assert post(http, job_id, "decline") == (409, "not-awaiting-approval")
    assert post(http, front.accept(), "approve") == (409, "not-awaiting-approval")


def test_a_declined_job_can_be_asked_for_again(front: World, http: TestClient) -> None:
    job_id = front.accept(principal=OTHER, approval_required=True, retention_days=9)
    assert post(http, job_id, "decline", reason="duplicate") == (200, "canceled")
    assert http.get(f"/jobs/{job_id}").json()["outcome"] == "declined"
    assert post(http, job_id, "retry") == (200, "awaiting_approval")


def test_a_refused_job_runs_again_and_a_successful_one_does_not(
    front: World, http: TestClient
) -> None:
    job = front.finished(Verdict.FAIL, retention_days=9)
    for _ in range(2):
        assert post(http, job.id, "retry") == (200, "queued")
    assert http.get(f"/jobs/{job.id}").json()["retries"] == 1
    assert http.get(f"/jobs/{job.id}/evaluation").status_code == 404
    assert http.get(f"/patches/{job.patch_id}").status_code == 200
    front.finish(front.claim())
    assert post(http, job.id, "retry") == (409, "job-succeeded")
    assert post(http, front.accept(), "retry") == (409, "job-unfinished")


def test_a_job_without_pictures_cannot_run_again(front: World, http: TestClient) -> None:
    job = front.finished(Verdict.FAIL, retention_days=9)
    for digest in job.samples:
        front.parts.blobs.delete(digest)
    assert post(http, job.id, "retry") == (409, "pictures-gone")


def test_a_job_of_which_nothing_is_kept_cannot_run_again(front: World, http: TestClient) -> None:
    job = front.finished(Verdict.FAIL)
    assert post(http, job.id, "retry") == (409, "personal-data-gone")


def test_the_tenant_settles_approval_and_retention(front: World, http: TestClient) -> None:
    """What a tenant has not settled is the installation's."""
    for days, approval in ((5, True), (0, True), (None, False)):
        settled = TenantSettings(retention_days=days, approval_required=approval)
        with front.parts.database.transaction() as session:
            tenants.change(session, TENANT, settled, actor="operator", now=now())
        answer = http.post(
            "/unlearn",
            data={"request": json.dumps(fields())},
            files=as_files(pictures(3)),
        )
        view = answer.json()
        assert (answer.status_code, view["status"]) == (
            202,
            "awaiting_approval" if approval else "queued",
        )
        with front.parts.database.transaction() as session:
            kept = personal.retention_days(session, view["id"])
        assert kept == (front.parts.settings.retention_days if days is None else days)
        if approval:
            assert post(http, view["id"], "approve") == (403, "own-request")


def test_a_deadline_is_put_off_once_as_far_as_the_law_allows(
    front: World, http: TestClient
) -> None:
    job_id = gdpr(front)
    view = http.get(f"/jobs/{job_id}").json()
    received = datetime.fromisoformat(view["created_at"])
    limit = extended_deadline(Regulation.GDPR, received)
    assert limit is not None
    beyond = limit.replace(year=limit.year + 1).isoformat()
    refused = (422, "extension-out-of-range")
    assert post(http, job_id, "extend", reason="complexity", until=beyond) == refused
    assert post(http, job_id, "extend", reason="complexity") == (200, "queued")
    after = http.get(f"/jobs/{job_id}").json()
    assert datetime.fromisoformat(after["due_at"]) == limit
    assert (after["extended_from"], after["extension_reason"]) == (view["due_at"], "complexity")
    again = post(http, job_id, "extend", reason="number_of_requests")
    assert again == (409, "already-extended")


def gdpr(front: World) -> str:
    """A GDPR job with the law's deadline."""
    job_id = front.accept(**unlearn_request(regulation="gdpr").model_dump(include={"regulation"}))
    received = front.job(job_id).created_at
    due = statutory_deadline(Regulation.GDPR, received)
    with front.parts.database.transaction() as session:
        session.execute(update(JobRow).where(JobRow.id == job_id).values(due_at=due))
    return job_id


#: What is wrong with a body: the problem, and the place in it.
WRONG = (
    ("extend", b"", "invalid-request", ""),
    ("extend", b"{}", "invalid-request", "/reason"),
    ("extend", b"{", "malformed-json", None),
    ("extend", b'{"reason": "Quillon is away"}', "invalid-request", "/reason"),
    (
        "extend",
        b'{"reason": "complexity", "until": "2027-01-01T00:00:00"}',
        "invalid-request",
        "/until",
    ),
    ("extend", b'{"reason": "complexity", "note": "x"}', "invalid-request", "/note"),
    ("approve", b'{"reason": "Quillon is fine"}', "invalid-request", "/reason"),
    ("decline", b"[]", "invalid-request", ""),
)


def test_a_wrong_body_is_told_and_not_repeated(front: World, http: TestClient) -> None:
    job_id = front.accept(principal=OTHER, approval_required=True)
    headers = {"content-type": "application/json"}
    for what, body, slug, pointer in WRONG:
        answer = http.post(f"/jobs/{job_id}/{what}", content=body, headers=headers)
        found = answer.json()
        assert found["type"] == f"/problems/{slug}"
        places = [line["pointer"] for line in found["errors"]]
        assert places == ([] if pointer is None else [pointer])
        assert "Quillon" not in json.dumps(found)
    assert front.job(job_id).status.value == "awaiting_approval"
