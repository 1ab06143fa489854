"""``POST /unlearn``: what is accepted, and what it leaves behind."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient
from front_world import (
    MODEL,
    SECRET_NAME,
    World,
    as_files,
    fields,
    pictures,
    red,
    several,
    sha256,
)
from PIL import Image

from api_schemas.deadlines import calendar_months_after
from api_schemas.jobs import JobStatus, JobView
from registry.settings import Settings
from service import unlearn
from service.errors import InvalidIdempotencyKey


def post(http: TestClient, key: str | None = None, count: int = 3, **changes: Any):
    headers = {} if key is None else {"Idempotency-Key": key}
    return http.post(
        "/unlearn",
        data={"request": json.dumps(fields(**changes))},
        files=as_files(pictures(count)),
        headers=headers,
    )


def post_json(http: TestClient, samples: list[bytes], **changes: Any):
    encoded = [base64.b64encode(sample).decode() for sample in samples]
    return http.post("/unlearn", json=fields(**changes) | {"samples": encoded})


def test_an_accepted_request_is_a_queued_job_with_pictures_and_message(
    front: World, http: TestClient
) -> None:
    assert front.stored() == {"jobs": 0, "outbox": 0, "idempotency": 0, "audit": 1, "blobs": 0}
    answer = post(http, count=4, metadata={"case": "17"}, subject_request_id="case-17")
    assert answer.status_code == 202
    view = JobView.model_validate(answer.json())
    assert view.status is JobStatus.QUEUED
    assert (view.model, view.method, view.metadata) == (MODEL, "razor", {"case": "17"})
    assert answer.headers["location"] == view.urls.self == f"/jobs/{view.id}"
    assert int(answer.headers["retry-after"]) > 0
    assert http.get(answer.headers["location"]).json() == answer.json()
    assert SECRET_NAME not in answer.text
    job = front.job(view.id)
    assert job.request.target.name == SECRET_NAME
    assert len(job.samples) == 4
    assert all(front.parts.blobs.exists(digest) for digest in job.samples)
    assert front.stored() | {"outbox": 0} == {
        "jobs": 1,
        "outbox": 0,
        "idempotency": 0,
        "audit": 2,
        "blobs": 4,
    }


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
def test_pictures_are_kept_in_order_as_sealed_png_under_their_own_digest(
    front: World, http: TestClient, image_format: str
) -> None:
    sent = pictures(3, image_format=image_format)
    answer = http.post(
        "/unlearn", data={"request": json.dumps(fields())}, files=as_files(sent, pictures(5)[3:])
    )
    assert answer.status_code == 202, answer.text
    job = front.job(answer.json()["id"])
    assert (len(job.samples), len(job.probe_samples)) == (3, 2)
    for number, digest in enumerate(job.samples):
        with front.parts.blobs.open(digest) as file:
            data = file.read()
        assert sha256(data) == digest
        assert b"PNG" not in data
        assert job.data_key is not None
        image = Image.open(io.BytesIO(job.data_key.open_picture(data)))
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (8, 8))
        assert abs(image.getpixel((4, 4))[0] - red(number)[0]) <= 2


def test_the_request_part_may_be_a_file_and_both_forms_make_the_same_job(
    front: World, http: TestClient
) -> None:
    key = {"Idempotency-Key": "one"}
    as_file = [("request", ("r.json", json.dumps(fields()), "application/json"))]
    first = http.post("/unlearn", files=[*as_file, *as_files(pictures(3))], headers=key)
    assert first.status_code == 202
    samples = [base64.b64encode(sample).decode() for sample in pictures(3)]
    again = http.post("/unlearn", json=fields() | {"samples": samples}, headers=key)
    assert again.status_code == 202
    assert again.json()["id"] == first.json()["id"]


def test_deadlines_follow_the_law_unless_the_request_sets_one(
    front: World, http: TestClient
) -> None:
    gdpr = JobView.model_validate(post(http, regulation="gdpr").json())
    assert gdpr.due_at == calendar_months_after(gdpr.created_at, 1)
    own = post(http, regulation="gdpr", due_at="2031-01-02T03:04:05+02:00").json()
    assert datetime.fromisoformat(own["due_at"]) == datetime(2031, 1, 2, 1, 4, 5, tzinfo=UTC)
    assert post(http).json()["due_at"] is None


def test_the_same_key_is_the_same_job_whether_quoted_or_bare(
    front: World, http: TestClient
) -> None:
    first = post(http, key="case 17")
    again = post(http, key='"case 17"')
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert front.stored()["jobs"] == front.stored()["idempotency"] == 1
    assert post(http, key="case 18").json()["id"] != first.json()["id"]


def test_a_replay_answers_with_the_job_as_it_stands_now(front: World, http: TestClient) -> None:
    first = post(http, key="k")
    front.finish(front.claim())
    again = post(http, key="k")
    assert again.status_code == 202
    assert again.json()["id"] == first.json()["id"]
    assert again.json()["status"] == "succeeded"


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"count": 4}, {"target": {"name": "Somebody Else"}}]
)
def test_the_same_key_for_another_request_is_refused(
    front: World, http: TestClient, changes: dict[str, Any]
) -> None:
    post(http, key="k")
    before = front.stored()["jobs"]
    answer = post(http, key="k", **changes)
    assert answer.status_code == 422
    assert answer.json()["type"] == "/problems/idempotency-conflict"
    assert front.stored()["jobs"] == before


def test_one_key_sent_at_the_same_moment_makes_one_job(front: World, http: TestClient) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: post(http, key="race"), range(6)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert front.stored()["jobs"] == 1


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("abc", "abc"),
        ('"abc"', "abc"),
        (' "a b" ', "a b"),
        (r'"a\"b\\c"', 'a"b\\c'),
        ("x" * 255, "x" * 255),
        (None, None),
    ],
)
def test_keys_are_read_bare_and_quoted(header: str | None, key: str | None) -> None:
    assert unlearn.idempotency_key(header) == key


@pytest.mark.parametrize("header", ["", '""', '"a', 'a"b', "x" * 256, "käse", "a\tb", r'"a\b"'])
def test_other_keys_are_refused(header: str) -> None:
    with pytest.raises(InvalidIdempotencyKey):
        unlearn.idempotency_key(header)


def test_a_failed_transaction_leaves_no_row(
    front: World, http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = front.stored()

    def broken(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError(SECRET_NAME)

    # The last statement of the transaction: everything before it has been written by then.
    monkeypatch.setattr("registry.jobs.intake._note_acceptance", broken)
    answer = post(http, key="k")
    assert answer.status_code == 500
    assert SECRET_NAME not in answer.text
    assert front.stored() | {"blobs": 0} == before
    monkeypatch.undo()
    assert post(http, key="k").status_code == 202


def test_requests_under_way_keep_no_other_waiting(
    front: World, http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More submissions are under way than the thread pool has threads, and the front answers."""
    go_on = threading.Event()
    accept = unlearn.accept

    def slow(*args: Any) -> Any:
        assert go_on.wait(30)
        return accept(*args)

    monkeypatch.setattr(unlearn, "accept", slow)
    with ThreadPoolExecutor(50) as pool:
        answers = [pool.submit(post, http) for _ in range(50)]
        time.sleep(0.5)
        assert http.get("/models").status_code == 200
        assert not any(answer.done() for answer in answers)
        go_on.set()
        assert {answer.result().status_code for answer in answers} == {202}


def test_every_limit_is_inclusive(front: World, http: TestClient) -> None:
    limit = front.parts.settings.max_sample_bytes
    padded = pictures(1)[0]
    padded += bytes(limit - len(padded))
    many = [padded, *pictures(50)[1:]]
    assert isinstance(front.parts.settings, Settings)
    answer = http.post("/unlearn", data={"request": json.dumps(fields())}, files=as_files(many))
    assert answer.status_code == 202, answer.text


def test_a_list_of_targets_is_one_job_in_either_form(front: World, http: TestClient) -> None:
    listed = fields(targets=several(3, 4, probe_samples=2))
    key = {"Idempotency-Key": "list"}
    sent, probes = pictures(7), pictures(9)[7:]
    answer = http.post(
        "/unlearn",
        data={"request": json.dumps(listed)},
        files=as_files(sent, probes),
        headers=key,
    )
    assert answer.status_code == 202, answer.text
    job = front.job(answer.json()["id"])
    assert [target.samples for target in job.request.wanted()] == [3, 4]
    assert (len(job.samples), len(job.probe_samples)) == (7, 2)
    in_base64 = {
        "samples": [base64.b64encode(sample).decode() for sample in sent],
        "probe_samples": [base64.b64encode(sample).decode() for sample in probes],
    }
    again = http.post("/unlearn", json=listed | in_base64, headers=key)
    assert again.json()["id"] == job.id
    split_otherwise = fields(targets=several(4, 3, probe_samples=2)) | in_base64
    refused = http.post("/unlearn", json=split_otherwise, headers=key)
    assert refused.json()["type"] == "/problems/idempotency-conflict"


def test_each_target_may_have_as_many_pictures_as_one_alone(front: World, http: TestClient) -> None:
    answer = post(http, count=103, targets=several(50, 50, 3))
    assert answer.status_code == 202, answer.text


def test_a_target_that_is_alone_needs_no_numbers_in_either_form(
    front: World, http: TestClient
) -> None:
    for changes in (
        {},
        {"target": {"name": "A", "samples": 4}},
        {"targets": [{"name": "A"}]},
        {"targets": several(4)},
    ):
        assert post(http, count=4, **changes).status_code == 202


def test_the_json_form_takes_pictures_in_base64(front: World, http: TestClient) -> None:
    answer = post_json(http, pictures(3), method={"method": "slug", "initial_ratio": 0.2})
    assert answer.status_code == 202
    assert front.job(answer.json()["id"]).request.method.method == "slug"
