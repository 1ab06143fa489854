"""A model's versions over HTTP, and models that are registered over HTTP."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from front_world import MODEL, World, world

from registry import models
from service import shelf as routes


def weights(number: object) -> str:
    return f"/models/{MODEL}/versions/{number}/weights"


def revoke(http: TestClient, number: object, reason: str = "defect") -> tuple[int, dict]:
    answer = http.post(f"/models/{MODEL}/versions/{number}/revoke", json={"reason": reason})
    return answer.status_code, answer.json()


def test_each_version_has_its_weights_and_the_base_has_its_own(
    front: World, http: TestClient
) -> None:
    first, _ = front.finished(retention_days=9), front.finished(retention_days=9)
    base = (front.checkpoint / "model.safetensors").read_bytes()
    expected = {0: base, 1: front.expected_weights(1), 2: front.expected_weights(2)}
    for number, content in expected.items():
        answer, head = http.get(weights(number)), http.head(weights(number))
        assert (answer.status_code, answer.content) == (200, content)
        assert head.headers["etag"] == answer.headers["etag"]
        part = http.get(weights(number), headers={"Range": "bytes=3-9"})
        assert (part.status_code, part.content) == (206, content[3:10])
    # The same bytes by either way have the same tag.
    same = http.head(f"/patches/{first.patch_id}/weights").headers["etag"]
    assert http.get(weights(1), headers={"If-None-Match": same}).status_code == 304
    for number in (3, "01", "-1", "x", "9" * 30):
        assert http.get(weights(number)).json()["type"] == "/problems/version-not-found"
    assert http.get("/models/nobody/versions/0/weights").status_code == 404


def test_a_revoked_version_is_gone_and_its_patch_still_there(
    front: World, http: TestClient
) -> None:
    first, second = front.finished(retention_days=9), front.finished(retention_days=9)
    status, told = revoke(http, 1)
    assert (status, told["latest_version"], told["reason"]) == (200, 0, "defect")
    (affected,) = told["affected"]
    assert (affected["version"], affected["job_id"]) == (2, second.id)
    assert affected["state"] == "queued"
    for number in (1, 2):
        answer = http.get(weights(number))
        assert (answer.status_code, answer.json()["type"]) == (410, "/problems/version-revoked")
    patched = http.get(f"/patches/{second.patch_id}/weights")
    assert patched.content == front.expected_weights(2)
    view = http.get(f"/jobs/{second.id}").json()
    assert view["result"]["rerun"] == affected["rerun"]
    assert view["result"]["revoked_at"] == told["revoked_at"]
    assert http.get(f"/jobs/{first.id}").json()["result"]["rerun"] is None
    front.finish(front.claim())
    assert http.get(f"/jobs/{affected['rerun']}").json()["rerun_of"] == second.id
    listed = http.get(f"/models/{MODEL}/versions").json()["items"]
    assert [(v["number"], v["parent"], v["revoked_with"]) for v in listed] == [
        (0, None, None),
        (1, 0, None),
        (2, 1, 1),
        (3, 0, None),
    ]
    # On the base alone: the values are those of the first patch of a line.
    assert http.get(weights(3)).content == front.expected_weights(1)


def test_what_cannot_be_revoked_says_why(front: World, http: TestClient) -> None:
    front.finished(retention_days=9), front.finished(retention_days=9)
    for number, status, slug in ((0, 409, "base-not-revocable"), (7, 404, "version-not-found")):
        found = revoke(http, number)
        assert (found[0], found[1]["type"]) == (status, f"/problems/{slug}")
    assert revoke(http, 1, "because Quillon said so")[0] == 422
    assert revoke(http, 1) == revoke(http, 1)
    assert revoke(http, 2)[1]["type"] == "/problems/version-withdrawn"


def test_pictures_that_are_gone_are_told(front: World, http: TestClient) -> None:
    front.finished(retention_days=9)
    second = front.finished(retention_days=9)
    for digest in second.samples:
        front.parts.blobs.delete(digest)
    (affected,) = revoke(http, 1)[1]["affected"]
    assert (affected["job_id"], affected["state"]) == (second.id, "post_again")


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[World]:
    """A front that takes models from ``shelf``, where one lies."""
    with world(tmp_path, models_folder=tmp_path / "shelf") as made:
        home = tmp_path / "shelf"
        (home / "keep").mkdir(parents=True)
        (home / "keep/index.csv").write_text("path,name,caption\na.png,A,c\n")
        shutil.copytree(made.checkpoint, home / "weights")
        (home / "out").symlink_to(tmp_path / "checkpoint")
        yield made


RECORD = {"id": "new", "family": "clip", "checkpoint": "weights", "retain": {"folder": "keep"}}


def test_a_model_is_registered_from_the_models_folder(shelf: World, tmp_path: Path) -> None:
    assert shelf.http is not None
    for _ in range(2):
        answer = shelf.http.post("/models", json=RECORD)
        assert (answer.status_code, answer.headers["location"]) == (201, "/models/new")
        assert str(tmp_path) not in answer.text
    with shelf.parts.database.transaction() as session:
        record = models.get(session, "new").record
    assert record.checkpoint == str(tmp_path / "shelf/weights")
    assert record.retain.folder == str(tmp_path / "shelf/keep")
    taken = shelf.http.post("/models", json=RECORD | {"device": "cpu"})
    assert (taken.status_code, taken.json()["type"]) == (409, "/problems/model-exists")
    assert shelf.http.get("/models/new/versions/0/weights").status_code == 200


def test_no_path_leads_out_of_the_models_folder(shelf: World, tmp_path: Path) -> None:
    assert shelf.http is not None
    for path in ("..", "../checkpoint", "out", "", ".", "nowhere", "a\0b", "/", "keep/index.csv"):
        for pointer, change in (
            ("/checkpoint", {"checkpoint": path}),
            ("/retain/folder", {"retain": {"folder": path}}),
        ):
            answer = shelf.http.post("/models", json=RECORD | change)
            found = answer.json()
            assert (answer.status_code, found["type"]) == (422, "/problems/unsafe-model-path")
            assert [line["pointer"] for line in found["errors"]] == [pointer], path
    (tmp_path / "shelf/weights/config.json").symlink_to("/etc/hostname")
    linked = shelf.http.post("/models", json=RECORD)
    assert linked.json()["type"] == "/problems/unsafe-model-path"


DIGEST = "sha256:" + "0" * 64


def test_what_cannot_be_hashed_within_a_request_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr(routes, "checkpoint_digest", lambda folder: read.append(folder) or DIGEST)
    with world(tmp_path, models_folder=tmp_path, max_model_bytes=100) as front:
        weights = tmp_path / "weights"
        (tmp_path / "keep").mkdir()
        (tmp_path / "keep/index.csv").write_text("path,name,caption\n")
        weights.mkdir()
        (weights / "model.safetensors").write_bytes(bytes(60))
        (weights / "more.safetensors").write_bytes(bytes(41))
        assert front.http is not None
        found = front.http.post("/models", json=RECORD).json()
        assert (found["status"], found["type"]) == (422, "/problems/model-too-large")
        assert [line["pointer"] for line in found["errors"]] == ["/checkpoint"]
        assert read == []
        (weights / "more.safetensors").write_bytes(bytes(40))
        assert front.http.post("/models", json=RECORD).status_code == 201
        assert read == [weights]


def test_a_record_that_does_not_fit_is_told_where(shelf: World) -> None:
    assert shelf.http is not None
    changes: dict[str, dict[str, object]] = {
        "/digest": {"digest": "sha256:" + "1" * 64},
        "/retain": {"prompts": {"name": ["{}"], "style": ["{}"]}},
        "/judge": {"family": "diffusion"},
    }
    for pointer, change in changes.items():
        found = shelf.http.post("/models", json=RECORD | change).json()
        assert found["type"] == "/problems/unfit-record"
        assert [line["pointer"] for line in found["errors"]] == [pointer]


def test_without_a_models_folder_none_is_taken(http: TestClient) -> None:
    answer = http.post("/models", json=RECORD)
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/registration-off")
