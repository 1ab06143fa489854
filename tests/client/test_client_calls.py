"""Every call, against a real front behind a real server."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from front_world import MODEL, SECRET_NAME, World, pictures, unlearn_request
from hypothesis import given, settings
from hypothesis import strategies as st

from api_schemas import methods
from api_schemas.concepts import Target
from api_schemas.families import Family
from api_schemas.jobs import JobStatus, Outcome
from api_schemas.reasons import ApprovalReason, DeclineReason, ExtensionReason, RevocationReason
from api_schemas.reports import Verdict
from api_schemas.requests import UnlearnRequest
from api_schemas.shelf import ModelRecord, RetainSet
from client import Client, ProblemError, submission
from service import unlearn


def test_submit_watch_and_read(front: World, service: Client, tmp_path: Path) -> None:
    on_disk = tmp_path / f"{SECRET_NAME}.png"
    on_disk.write_bytes(pictures(3)[2])
    request = unlearn_request(priority=3, metadata={"case": "17"})
    job = service.submit(request, [*pictures(2), on_disk], probe_samples=pictures(5)[3:])
    assert (job.status, job.priority, job.metadata) == (JobStatus.QUEUED, 3, {"case": "17"})
    kept = front.job(job.id)
    assert kept.request == request
    assert (len(kept.samples), len(kept.probe_samples)) == (3, 2)
    assert service.job(job.id) == job
    front.finish(front.claim())
    done = service.wait(job.id, timeout=10)
    assert (done.status, done.outcome) == (JobStatus.SUCCEEDED, Outcome.PATCHED)
    assert done.result is not None
    assert done.result.patch_id is not None
    report = service.evaluation(job.id)
    assert report.gate is not None
    assert report.gate.verdict is Verdict.PASS
    patch = service.patch(done.result.patch_id)
    assert (patch.job_id, patch.published, patch.model_version) == (job.id, True, 1)


def test_pictures_of_a_list_go_target_by_target(front: World, service: Client) -> None:
    targets = (Target(name="Mara Venn", samples=3), Target(name="Oskar Brill", samples=4))
    request = unlearn_request(targets=targets)
    mara, oskar = pictures(7)[:3], pictures(7)[3:]
    job = service.submit(request, [*mara, *oskar])
    kept = front.job(job.id)
    assert kept.request == request
    assert len(kept.samples) == 7
    with pytest.raises(ProblemError) as caught:
        service.submit(request, mara)
    assert [field.pointer for field in caught.value.problem.errors] == ["/targets/1/samples"]


def test_each_submission_is_a_job_of_its_own_unless_the_key_is_yours(
    front: World, service: Client
) -> None:
    first = service.submit(unlearn_request(), pictures(3))
    assert service.submit(unlearn_request(), pictures(3)).id != first.id
    mine = service.submit(unlearn_request(), pictures(3), idempotency_key='case "17"')
    again = service.submit(unlearn_request(), pictures(3), idempotency_key='case "17"')
    assert again.id == mine.id
    with pytest.raises(ProblemError) as caught:
        service.submit(unlearn_request(seed=7), pictures(3), idempotency_key='case "17"')
    assert caught.value.problem.type == "/problems/idempotency-conflict"


@settings(max_examples=40, deadline=None)
@given(key=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=255))
def test_any_printable_key_arrives_as_it_is(key: str) -> None:
    sent: list[str] = []

    def keep(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers["idempotency-key"])
        return httpx.Response(422, json={})

    with (
        Client("http://test", transport=httpx.MockTransport(keep)) as service,
        pytest.raises(ProblemError),
    ):
        service.submit(unlearn_request(), [], idempotency_key=key)
    assert unlearn.idempotency_key(sent[0]) == key


def test_pages_and_filters(front: World, service: Client) -> None:
    made = [front.accept() for _ in range(5)]
    service.cancel(made[1])
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = service.jobs(limit=2, cursor=cursor, status=JobStatus.QUEUED, model=MODEL)
        found += [job.id for job in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert found == [made[4], made[3], made[2], made[0]]


def test_cancel_is_idempotent(front: World, service: Client) -> None:
    job_id = front.accept()
    assert service.cancel(job_id).status is JobStatus.CANCELED
    assert service.cancel(job_id).status is JobStatus.CANCELED
    done = front.finished()
    with pytest.raises(ProblemError) as caught:
        service.cancel(done.id)
    assert caught.value.problem.status == 409


def test_decisions_on_a_job(front: World, service: Client) -> None:
    who = {"principal": "somebody else", "approval_required": True, "retention_days": 9}
    job_id = front.accept(**who, regulation="gdpr")
    assert service.job(job_id).status is JobStatus.AWAITING_APPROVAL
    assert service.approve(job_id, ApprovalReason.POLICY).status is JobStatus.QUEUED
    service.cancel(job_id)
    assert service.retry(job_id).retries == 1
    other = front.accept(principal="somebody else", approval_required=True)
    assert service.decline(other, DeclineReason.DUPLICATE).outcome is Outcome.DECLINED
    with pytest.raises(ProblemError) as caught:
        service.decline(job_id)
    assert caught.value.problem.type == "/problems/not-awaiting-approval"
    service.cancel(job_id)
    with pytest.raises(ProblemError) as caught:
        service.extend(job_id, ExtensionReason.COMPLEXITY, datetime(2020, 1, 1, tzinfo=UTC))
    assert caught.value.problem.type == "/problems/not-extendable", "it came without a deadline"


def test_versions_are_fetched_and_revoked(front: World, service: Client, tmp_path: Path) -> None:
    front.finished()
    assert not service.version_is_a_folder(MODEL, 1)
    path = service.download_version(MODEL, 1, tmp_path / "w.safetensors")
    assert path.read_bytes() == front.expected_weights(1)
    told = service.revoke(MODEL, 1, RevocationReason.OTHER)
    assert (told.latest_version, told.affected) == (0, [])
    with pytest.raises(ProblemError) as caught:
        service.download_version(MODEL, 1, tmp_path / "again.safetensors")
    assert caught.value.problem.status == 410
    with pytest.raises(ProblemError) as caught:
        service.add_model(
            ModelRecord(id="m", family=Family.CLIP, checkpoint="w", retain=RetainSet(folder="r"))
        )
    assert caught.value.problem.type == "/problems/registration-off"


def test_the_shelf_and_the_service(front: World, service: Client) -> None:
    front.finished()
    assert [model.id for model in service.models().items] == [MODEL]
    assert service.model(MODEL).latest_version == 1
    assert [version.number for version in service.versions(MODEL).items] == [0, 1]
    assert [method.method for method in service.methods()] == methods.names()
    assert service.readyz().status == "ready"
    assert service.version().patch_format == 1
    assert "razor_build_info" in service.metrics()


def test_a_service_that_is_not_ready_answers_too(front: World, service: Client) -> None:
    blobs = front.parts.settings.blob_folder
    blobs.rename(blobs.with_name("away"))
    assert service.readyz().status == "not_ready"


def test_a_refusal_carries_the_problem(service: Client) -> None:
    with pytest.raises(ProblemError) as caught:
        service.submit(unlearn_request(model="nobody-knows"), pictures(3))
    problem = caught.value.problem
    assert (problem.type, problem.status) == ("/problems/unknown-model", 422)
    assert [field.pointer for field in problem.errors] == ["/model"]
    message = str(caught.value)
    assert "/model" in message
    assert problem.request_id in message
    assert SECRET_NAME not in message


def test_an_id_never_leads_to_another_address(service: Client) -> None:
    for identifier in ("../../healthz", "a/b", "?x=1", "#", "ü", ".", ".."):
        for call in (service.job, service.patch, service.model, service.evaluation):
            with pytest.raises(ProblemError) as caught:
                call(identifier)
            assert caught.value.problem.status == 404


def test_file_names_are_not_sent(front: World, tmp_path: Path) -> None:
    sent: list[bytes] = []

    def keep(request: httpx.Request) -> httpx.Response:
        sent.append(request.read())
        return httpx.Response(422, json={})

    path = tmp_path / f"{SECRET_NAME}.png"
    path.write_bytes(pictures(1)[0])
    request = unlearn_request(target={"name": "Somebody"})
    with (
        Client("http://test", transport=httpx.MockTransport(keep)) as service,
        pytest.raises(ProblemError),
    ):
        service.submit(request, [path])
    assert b"Somebody" in sent[0]
    assert SECRET_NAME.encode() not in sent[0]


def test_what_was_not_set_is_left_to_the_service() -> None:
    """It knows the model's family, and so the default that fits."""
    target = Target(name="Quentin Vale")
    plain = json.loads(submission.as_set(UnlearnRequest(model="m", target=target)))
    assert plain == {"model": "m", "target": {"name": "Quentin Vale"}}
    asked = UnlearnRequest(model="m", target=target, method=methods.Razor(tau=0.1), seed=0)
    sent = json.loads(submission.as_set(asked))
    assert sent["method"] == {"method": "razor", "tau": 0.1}
    assert sent["seed"] == 0
    assert UnlearnRequest.model_validate(sent) == asked


def test_the_report_is_a_page_too(front: World, service: Client) -> None:
    job = front.finished()
    page = service.report_page(job.id)
    assert page.startswith(b"<!doctype html>")
    assert job.id.encode() in page
