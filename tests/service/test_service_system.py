"""Readiness, figures, the catalog."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from front_world import MODEL, SECRET_NAME, World, every_route, register, world
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select

from api_schemas.families import Family
from api_schemas.jobs import JobStatus, Outcome
from api_schemas.methods import catalog, names
from api_schemas.patches import FORMAT_VERSION
from api_schemas.shelf import ModelList, ModelView, VersionList
from registry.tables import JobRow
from service import background
from service.broker import MemoryBroker
from service.metrics import DEAD, DELIVERED, FAILED, REAPED
from service.parts import now
from worker.measures import WorkerMeasures


def test_ready_needs_database_and_storage_but_not_the_broker(tmp_path: Path) -> None:
    broker = MemoryBroker()
    with world(tmp_path, broker=broker) as made:
        http = made.http
        assert http is not None
        ready = http.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "ready")
        broker.down = True
        degraded = http.get("/readyz")
        assert (degraded.status_code, degraded.json()["status"]) == (200, "degraded")
        assert degraded.json()["checks"]["broker"] == "failed"
        broker.down = False
        blobs = made.parts.settings.blob_folder
        blobs.rename(blobs.with_name("away"))
        away = http.get("/readyz")
        assert (away.status_code, away.json()["status"]) == (503, "not_ready")
        assert away.json()["checks"] == {"database": "ok", "storage": "failed", "broker": "ok"}
        assert http.get("/healthz").json() == {"status": "ok"}


def test_without_a_database_the_front_is_alive_and_not_ready(
    front: World, http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object) -> None:
        raise ConnectionError

    monkeypatch.setattr("sqlalchemy.engine.Engine.connect", refuse)
    assert http.get("/healthz").status_code == 200
    assert http.get("/readyz").json()["checks"]["database"] == "failed"
    scraped = http.get("/metrics")
    assert scraped.status_code == 200
    assert "razor_registry_up 0.0" in scraped.text
    assert "razor_jobs{" not in scraped.text


def samples(http: TestClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(http.get("/metrics").text)
        for sample in family.samples
    }


def value(http: TestClient, name: str, **labels: str) -> float:
    return samples(http)[name, frozenset(labels.items())]


def test_figures_follow_the_registry(front: World, http: TestClient) -> None:
    assert value(http, "razor_registry_up") == 1
    assert value(http, "razor_jobs", status="queued") == 0
    front.finished()
    front.accept()
    job = front.claim()
    front.expire(job)
    assert value(http, "razor_jobs", status="succeeded") == 1
    assert value(http, "razor_jobs_finished", outcome="patched") == 1
    assert value(http, "razor_jobs_finished", outcome="error") == 0
    assert value(http, "razor_jobs_oldest_queued_seconds") >= 0


def test_requests_are_counted_by_template(http: TestClient) -> None:
    for number in range(3):
        http.get(f"/jobs/job_{number}")
        http.get(f"/nowhere/{number}")
    http.request("BREW", "/healthz")
    http.get("/healthz")
    count = "razor_http_requests_total"
    assert value(http, count, method="GET", route="/jobs/{job_id}", status="404") == 3
    assert value(http, count, method="GET", route="unmatched", status="404") == 3
    assert value(http, count, method="other", route="/healthz", status="405") == 1
    seconds = "razor_http_request_duration_seconds_count"
    assert value(http, seconds, method="GET", route="/healthz") == 1


def test_names_follow_the_conventions(front: World, http: TestClient) -> None:
    text = http.get("/metrics").text
    families = list(text_string_to_metric_families(text))
    ours = [family for family in families if family.name.startswith("razor_")]
    assert len(ours) >= 12
    for family in families:
        assert family.documentation
        assert family.name.startswith(("razor_", "process_", "python_"))
    for family in ours:
        assert re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", family.name)
        assert not re.search(r"_(ms|minutes|milliseconds|count)$", family.name)
        assert family.type != "unknown"
    version = http.get("/version").json()
    build = next(family for family in ours if family.name == "razor_build_info")
    assert build.samples[0].labels["version"] == version["version"]
    assert version["patch_format"] == FORMAT_VERSION


def test_clocks_follow_the_registry(front: World, http: TestClient) -> None:
    assert value(http, "razor_worker_heartbeat_age_seconds") == 0
    assert "razor_jobs_deadline_remaining_seconds" not in http.get("/metrics").text
    front.accept(due_at=now() + timedelta(hours=2))
    front.accept(due_at=now() + timedelta(hours=1))
    left = value(http, "razor_jobs_deadline_remaining_seconds")
    assert 3000 < left <= 3600
    job = front.claim()
    with front.parts.database.transaction() as session:
        row = session.get_one(JobRow, job.id)
        row.lease_expires_at = now() + timedelta(seconds=front.parts.settings.lease_seconds - 7)
    assert 7 <= value(http, "razor_worker_heartbeat_age_seconds") < 60
    front.finish(front.job(job.id))
    assert value(http, "razor_worker_heartbeat_age_seconds") == 0
    assert value(http, "razor_jobs_deadline_remaining_seconds") > 3600 - 60
    with front.parts.database.transaction() as session:
        for row in session.scalars(select(JobRow).where(JobRow.id != job.id)):
            row.due_at = now() - timedelta(seconds=5)
    assert value(http, "razor_jobs_deadline_remaining_seconds") < 0
    assert value(http, "razor_jobs_overdue") == 1


def test_what_the_reaper_takes_is_counted(front: World, http: TestClient) -> None:
    most = front.parts.settings.max_attempts
    front.accept()
    for _ in range(most):
        front.expire(front.claim())
        background.reap(front.parts)
    assert value(http, "razor_leases_reaped_total", outcome="requeued") == most - 1
    assert value(http, "razor_leases_reaped_total", outcome="dead_lettered") == 1
    assert value(http, "razor_leases_reaped_total", outcome="canceled") == 0


LABELS = {
    "method": {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"},
    "status": {*JobStatus, *map(str, range(100, 600))},
    "outcome": {*Outcome, *REAPED, DELIVERED, FAILED, DEAD},
    "loop": {"relay", "reap", "reconcile", "deliver", "forget", "sweep", "prune", "tell"},
}


def test_no_label_has_a_value_that_a_caller_chose(front: World, http: TestClient) -> None:
    secret = SECRET_NAME.replace(" ", "-")
    for method, path in (
        ("GET", f"/jobs/{secret}"),
        ("GET", f"/{secret}"),
        (secret.upper(), "/jobs"),
        ("GET", f"/models/{secret.lower()}?{secret}={secret}"),
        ("POST", f"/jobs/{front.accept(metadata={'note': SECRET_NAME})}/cancel"),
        ("POST", "/unlearn"),
    ):
        http.request(method, path, headers={"X-Request-ID": secret, "Idempotency-Key": secret})
    text = http.get("/metrics").text
    routes = {route.path for route in every_route()}
    known = LABELS | {"route": {*routes, "unmatched"}}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            for label, found in sample.labels.items():
                if family.name.startswith("razor_") and family.name != "razor_build_info":
                    assert label == "le" or found in known[label], (family.name, label, found)
    assert "quillon" not in text.lower()


def families(text: str) -> dict[str, tuple[str, set[str]]]:
    """Type and labels of each of our metrics, under the names by which they are asked for."""
    found = {}
    for family in text_string_to_metric_families(text):
        labels = {label for sample in family.samples for label in sample.labels}
        if family.name.startswith("razor_"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            kind = "info" if family.name.endswith("_info") else family.type
            found[name] = (kind, labels - ({"le"} if family.type == "histogram" else set()))
    return found


def documented(section: str) -> dict[str, tuple[str, set[str]]]:
    """The same, as the document says it."""
    rows = re.findall(r"^\| `(razor_\w+)` \| (\w+) \|(.*?)\| .+ \|$", section, re.MULTILINE)
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def test_the_document_lists_every_metric_and_no_other(front: World, http: TestClient) -> None:
    document = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    _, of_front, rest = document.split("\n## ", 2)
    front.accept(due_at=now() + timedelta(hours=1))
    http.get("/healthz")
    assert documented(of_front) == families(http.get("/metrics").text)
    worker = WorkerMeasures()
    gpu = {"device": 0, "used": 1, "total": 2}
    run = {
        "model": MODEL,
        "verdict": "pass",
        "patch_bytes": 1,
        "peak_memory_bytes": 1,
        "figures": {"M1": (1.0, 0.0)},
    }
    worker.take({"ended": "succeeded", "seconds": 1.0, "run": run, "gpu": gpu})
    text = generate_latest(worker.registry).decode()
    of_worker, alerts = rest.split("\n## ", 1)
    assert documented(of_worker) == families(text)
    known = documented(of_front) | documented(of_worker)
    named = set(re.findall(r"\brazor_\w+", alerts))
    assert len(named) > 8
    assert named <= known.keys()


UNITS = ("_seconds", "_bytes", "_ratio", "_total", "_info")
#: Numbers of things have no unit; so much else is a gauge without one, and no more.
COUNTS = {
    *("razor_registry_up", "razor_jobs", "razor_jobs_finished", "razor_jobs_overdue"),
    *("razor_leases_expired", "razor_outbox_unsent"),
    "razor_opendsr_callbacks_waiting",
}


@pytest.mark.parametrize("of", ["front", "worker"])
def test_names_and_types_follow_the_conventions(http: TestClient, of: str) -> None:
    """What promtool's linter would say, and a little more."""
    text = http.get("/metrics").text
    if of == "worker":
        text = generate_latest(WorkerMeasures().registry).decode()
    for family in text_string_to_metric_families(text):
        if not family.name.startswith("razor_"):
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name)
        assert name.endswith(UNITS) or name in COUNTS, name
        assert name.endswith("_total") is (family.type == "counter"), name
        assert not family.name.endswith(("_count", "_sum", "_bucket", "_created"))
        assert not re.search(r"_(ms|minutes?|hours?|days?|percent|kb|mb|gb|kib|mib)(_|$)", name)
        assert family.documentation.endswith(".")
        assert family.documentation[0].isupper()
        for sample in family.samples:
            for label in sample.labels:
                assert re.fullmatch(r"[a-z][a-z0-9_]*", label)
                assert label not in {"job", "instance", "type"}
                assert (label == "le") <= (family.type == "histogram")


def test_counters_never_fall(http: TestClient) -> None:
    def counted() -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        found = samples(http).items()
        return {key: number for key, number in found if key[0].endswith(("_total", "_count"))}

    before = counted()
    http.get("/healthz")
    after = counted()
    assert all(after[key] >= number for key, number in before.items())
    assert sum(after.values()) > sum(before.values())


def test_the_shelf_shows_models_methods_and_versions(front: World, http: TestClient) -> None:
    register(front, "painter", Family.DIFFUSION)
    shelf = ModelList.model_validate(http.get("/models").json())
    assert [model.id for model in shelf.items] == ["painter", MODEL]
    model = ModelView.model_validate(http.get(f"/models/{MODEL}").json())
    assert (model.methods, model.latest_version) == (list(names(Family.CLIP)), 0)
    assert str(front.root) not in http.get(f"/models/{MODEL}").text
    job = front.finished()
    line = VersionList.model_validate(http.get(f"/models/{MODEL}/versions").json())
    assert [(version.number, version.parent, version.patch_id) for version in line.items] == [
        (0, None, None),
        (1, 0, job.patch_id),
    ]
    methods = http.get("/methods").json()
    assert methods == [method.model_dump(mode="json") for method in catalog()]
