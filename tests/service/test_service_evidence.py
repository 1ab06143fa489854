"""An auditor's calls: the log, its proofs, and a job's evidence."""

from __future__ import annotations

import base64
import io
import json
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from front_world import MODEL, SECRET_NAME, World, bearer, pictures, values_of, world

from api_schemas.access import Scope
from api_schemas.audit import AuditPage, ConsistencyProof, InclusionProof
from api_schemas.reports import Verdict
from evidence import archive, checkpoints, keys, lines, merkle, names
from evidence.verify import verify
from registry import audit, evidence
from registry.jobs import Job
from service import evidence as routes
from service import signing


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("evidence")) as made:
        yield made


@pytest.fixture(scope="module")
def job(front: World) -> Job:
    """A job that ended with a published patch."""
    return settled(front, front.finished())


@pytest.fixture
def http(front: World) -> TestClient:
    assert front.http is not None
    return front.http


def settled(front: World, job: Job) -> Job:
    """The job, once the janitor has deleted its pictures and noted it: the log rests then."""
    until = time.monotonic() + 20
    while front.job(job.id).erased_at is None:
        assert time.monotonic() < until, "nothing was deleted"
        time.sleep(0.02)
    return job


def public(http: TestClient) -> keys.PublicKey:
    return keys.read_public(http.get("/audit/key").content)


def head(http: TestClient) -> checkpoints.Checkpoint:
    return checkpoints.read(http.get("/audit/checkpoint").content, public(http))


def problem(http: TestClient, path: str) -> tuple[int, str]:
    answer = http.get(path)
    return answer.status_code, answer.json()["type"].removeprefix("/problems/")


def test_every_line_of_the_tenant_is_proven_to_be_in_the_log(http: TestClient, job: Job) -> None:
    found = AuditPage.model_validate(http.get("/audit").json())
    actions = [line.action for line in found.items]
    assert {"job.accepted", "job.claimed", "job.succeeded"} <= set(actions)
    assert "model.added" not in actions  # the operator's
    now = head(http)
    assert now.origin == "razor-audit"
    for line in found.items:
        answer = http.get(f"/audit/proof/{line.index}", params={"size": now.size})
        proof = InclusionProof.model_validate(answer.json())
        path = [bytes.fromhex(value) for value in proof.hashes]
        merkle.check_inclusion(lines.leaf(line), line.index, now.size, path, now.root)
    assert problem(http, "/audit/proof/0") == (404, "line-not-found")


def test_an_auditor_with_an_older_checkpoint_checks_that_the_log_only_grew(
    front: World, http: TestClient, job: Job
) -> None:
    old = head(http)
    front.finished()
    new = head(http)
    assert new.size > old.size
    answer = http.get("/audit/consistency", params={"from": old.size, "to": new.size})
    proof = ConsistencyProof.model_validate(answer.json())
    path = [bytes.fromhex(value) for value in proof.hashes]
    merkle.check_consistency(old.size, new.size, path, old.root, new.root)


def test_evidence_of_a_revoked_version_is_only_what_was_made_before(tmp_path: Path) -> None:
    with world(tmp_path) as made:
        assert made.http is not None
        early, late = made.finished(), made.finished()
        before = made.http.get(f"/jobs/{early.id}/evidence")
        assert before.status_code == 200
        revoked = made.http.post(f"/models/{MODEL}/versions/1/revoke", json={"reason": "defect"})
        assert revoked.status_code == 200
        after = made.http.get(f"/jobs/{early.id}/evidence")
        assert (after.status_code, after.content) == (200, before.content)
        assert problem(made.http, f"/jobs/{late.id}/evidence") == (404, "evidence-absent")


def test_the_certificate_names_its_subjects_by_hash(
    front: World, http: TestClient, job: Job
) -> None:
    (subject,) = front.job(job.id).subjects
    with tarfile.open(fileobj=io.BytesIO(http.get(f"/jobs/{job.id}/evidence").content)) as tar:
        member = tar.extractfile(f"{job.id}/{names.CERTIFICATE}")
        assert member is not None
        certificate = base64.b64decode(json.load(member)["payload"])
    assert subject.subject.encode() in certificate
    assert SECRET_NAME.encode() not in certificate


def test_pages_follow_each_other(http: TestClient, job: Job) -> None:
    whole = AuditPage.model_validate(http.get("/audit").json())
    seen, path = [], "/audit?limit=2"
    while path:
        answer = http.get(path)
        seen += AuditPage.model_validate(answer.json()).items
        path = answer.links.get("next", {}).get("url", "")
    assert seen == whole.items
    assert len(seen) > 2


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/audit?limit=0", (422, "invalid-request")),
        ("/audit?after=-1", (422, "invalid-request")),
        ("/audit?cursor=x", (422, "invalid-request")),
        ("/audit/proof/x", (404, "line-not-found")),
        ("/audit/proof/-1", (404, "line-not-found")),
        ("/audit/proof/999999", (404, "line-not-found")),
        ("/audit/proof/1?size=1", (400, "tree-size-invalid")),
        ("/audit/proof/1?size=999999", (400, "tree-size-invalid")),
        ("/audit/consistency?from=-1", (422, "invalid-request")),
        ("/audit/consistency?from=2&to=1", (400, "tree-size-invalid")),
        ("/audit/consistency?from=0&to=999999", (400, "tree-size-invalid")),
        ("/jobs/job_" + "0" * 32 + "/evidence", (404, "job-not-found")),
        ("/jobs/x/evidence", (404, "job-not-found")),
    ],
)
def test_wrong_calls(http: TestClient, job: Job, path: str, expected: tuple[int, str]) -> None:
    assert problem(http, path) == expected


def test_another_tenants_lines_and_evidence_are_none(
    front: World, http: TestClient, job: Job
) -> None:
    lines = AuditPage.model_validate(http.get("/audit").json()).items
    index = next(line.index for line in lines if line.object_id == job.id)
    others = bearer(front.new_key(Scope.AUDIT_READ, tenant="other"))
    theirs = http.get("/audit", headers=others).json()["items"]
    assert {line["object_type"] for line in theirs} == {"tenant", "key"}  # their own beginning
    for path, code in (
        (f"/audit/proof/{index}", "line-not-found"),
        (f"/jobs/{job.id}/evidence", "job-not-found"),
    ):
        answer = http.get(path, headers=others)
        assert (answer.status_code, answer.json()["type"]) == (404, f"/problems/{code}")
    assert head(http).size > index  # the log is one for all


def test_the_evidence_is_checked_offline(
    front: World, http: TestClient, job: Job, tmp_path: Path
) -> None:
    answer = http.get(f"/jobs/{job.id}/evidence")
    assert answer.status_code == 200
    path = tmp_path / "evidence.tar"
    path.write_bytes(answer.content)
    pem = http.get("/audit/key").content
    result = verify(path, key=pem)
    assert [check for check in result.checks if not check.passed] == []
    with archive.opened(path) as folder:
        assert values_of(1) in (folder / names.PATCH).read_bytes()
        for name in names.ALL:
            data = (folder / name).read_bytes()
            assert SECRET_NAME.encode() not in data
            assert pictures(1)[0] not in data
        assert MODEL.encode() in (folder / names.CARD).read_bytes()
    other = keys.load_or_create(tmp_path / "other.pem")
    assert not verify(path, key=other.public.pem).passed


def test_the_evidence_is_the_same_file_each_time(front: World, http: TestClient, job: Job) -> None:
    address = f"/jobs/{job.id}/evidence"
    first = http.get(address)
    settled(front, front.finished())  # the log goes on; the evidence stays
    blobs = sorted(front.parts.blobs.digests())
    again = http.get(address)
    assert again.content == first.content
    assert sorted(front.parts.blobs.digests()) == blobs
    etag = first.headers["etag"]
    assert http.get(address, headers={"if-none-match": etag}).status_code == 304
    part = http.get(address, headers={"range": "bytes=100-"})
    assert (part.status_code, part.content) == (206, first.content[100:])
    assert int(http.head(address).headers["content-length"]) == len(first.content)
    with front.parts.database.transaction() as session:
        noted = [entry.action for entry in audit.entries(session, object_id=job.id, limit=1000)]
    assert noted.count("evidence.issued") == 1


def test_two_that_ask_first_get_one_file(front: World) -> None:
    done = front.finished()
    barrier = threading.Barrier(2)
    found: list[str] = []
    with front.parts.database.transaction() as session:
        patch = routes.patches.get(session, done.patch_id or "")

    def ask() -> None:
        barrier.wait()
        found.append(routes._make(front.parts, done, patch, principal="auditor"))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with front.parts.database.transaction() as session:
        assert found == [evidence.find(session, done.id)] * 2


def test_there_is_none_of_a_job_without_a_published_patch(front: World, http: TestClient) -> None:
    queued = front.accept()
    assert problem(http, f"/jobs/{queued}/evidence") == (404, "evidence-absent")
    refused = front.finish(front.claim(), Verdict.PARTIAL)
    assert refused.patch_id is not None
    failed = (front.accept(), front.fail(front.claim()))[1]
    for done in (refused, failed):
        assert problem(http, f"/jobs/{done.id}/evidence") == (404, "evidence-absent")


def test_the_key_is_the_data_folders_own_and_its_tag_its_id(front: World, http: TestClient) -> None:
    answer = http.get("/audit/key")
    assert answer.headers["etag"] == f'"{public(http).id}"'
    assert b"PRIVATE" not in answer.content
    path = front.parts.settings.evidence_key
    assert path == front.root / "data" / "keys" / "evidence.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    headers = {"if-none-match": answer.headers["etag"]}
    assert http.get("/audit/key", headers=headers).status_code == 304


def test_a_key_that_others_may_read_signs_nothing(front: World, http: TestClient) -> None:
    path = front.parts.settings.evidence_key
    public(http)
    path.chmod(0o644)
    signing._loaded.cache_clear()
    try:
        assert problem(http, "/audit/checkpoint") == (503, "signing-key-unusable")
    finally:
        path.chmod(0o600)
    assert head(http).size
