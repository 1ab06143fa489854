"""A service that answers from memory, and commands run as a shell would run them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from api_schemas.jobs import JobError, JobResult, JobStatus, JobUrls, JobView, Outcome, Progress
from api_schemas.problems import FieldProblem, Problem

GOLDEN = Path(__file__).parent.parent / "patches" / "golden" / "v1"
JOB = "job_" + "1" * 32
PATCH = "pat_" + "2" * 32
MOMENT = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


@dataclass
class Ran:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


def job(status: JobStatus = JobStatus.RUNNING, **changes: Any) -> JobView:
    base = JobView(
        id=JOB,
        status=status,
        outcome=None,
        model="toy",
        method="razor",
        priority=0,
        regulation="none",
        subject_request_id=None,
        dry_run=False,
        metadata={},
        subjects=["0" * 64],
        progress=Progress(phase="edit", fraction=0.5, eta_seconds=8.0),
        created_at=MOMENT,
        started_at=MOMENT,
        finished_at=None,
        due_at=None,
        erased_at=None,
        extended_from=None,
        extension_reason=None,
        approval=None,
        retries=0,
        rerun_of=None,
        attempts=1,
        error=None,
        result=None,
        urls=JobUrls(
            self=f"/jobs/{JOB}",
            cancel=f"/jobs/{JOB}/cancel",
            events=f"/jobs/{JOB}/events",
            retry=f"/jobs/{JOB}/retry",
            evaluation=f"/jobs/{JOB}/evaluation",
            report=f"/jobs/{JOB}/report.html",
            patch=None,
            patch_file=None,
            weights=None,
            evidence=None,
        ),
    )
    return base.model_copy(update=changes)


def done(version: int | None = 1) -> JobView:
    return job(
        JobStatus.SUCCEEDED if version else JobStatus.REJECTED,
        outcome=Outcome.PATCHED if version else Outcome.GATE_REFUSED,
        progress=Progress(phase="store", fraction=1.0, eta_seconds=None),
        result=JobResult(
            verdict="pass", patch_id=PATCH, model_version=version, revoked_at=None, rerun=None
        ),
    )


def failed() -> JobView:
    error = JobError(code="edit_diverged", message="Lower the step.", retryable=True)
    return job(JobStatus.FAILED, outcome=Outcome.ERROR, error=error)


def problem(status: int, *fields: FieldProblem) -> httpx.Response:
    found = Problem(
        type="https://example.org/p",
        title="No",
        status=status,
        detail="That cannot be.",
        request_id="req-7",
        retryable=False,
        errors=list(fields),
    )
    return httpx.Response(status, content=found.model_dump_json())


def measurement(value: float) -> dict[str, Any]:
    return {"value": value, "n": 20, "interval": [value - 1, value + 1]}


def metric(after: float = 2.5, **changes: Any) -> dict[str, Any]:
    base = {
        "id": "M1",
        "target": 0,
        "name": "forget accuracy",
        "definition": "Share of pictures.",
        "unit": "percent",
        "better": "lower",
        "before": measurement(97.5),
        "after": measurement(after),
        "change": measurement(after - 97.5),
    }
    return base | changes


def check(found: float = 2.5, **changes: Any) -> dict[str, Any]:
    base = {
        "metric": "M1",
        "rule": "after at most",
        "threshold": 5.0,
        "found": found,
        "passed": found <= 5,
        "weak": True,
    }
    return base | changes


def preflight(target: int = 0) -> dict[str, Any]:
    return {
        "target": target,
        "known": True,
        "accuracy": measurement(97.5),
        "chance": 3.4,
        "sample_similarity": 1.0,
        "kin_similarity": 0.8,
        "stranger_similarity": 0.0,
    }


def report() -> dict[str, Any]:
    return {
        "model": "toy",
        "model_version": 0,
        "method": "razor",
        "seed": 0,
        "roles": {
            **dict.fromkeys(("target_fit", "target_select", "target_test"), 1),
            **dict.fromkeys(("retain_fit", "retain_select", "retain_test"), 1),
            "target_digest": "0" * 64,
            "retain_digest": "0" * 64,
        },
        "preflight": [preflight()],
        "metrics": [metric()],
        "robustness": [],
        "earlier": [],
        "gate": {"verdict": "pass", "weak_evidence": True, "checks": [check()]},
        "scores": [],
        "edited": [{"unit": "visual.1.out", "step_ratio": 0.1}],
        "weights_changed": 12,
        "weights_total": 1200,
        "patch_bytes": 268,
        "warnings": ["few pictures"],
        "cost": {
            "wall_seconds": 1.5,
            "phase_seconds": {},
            "forward_passes": 1,
            "backward_passes": 1,
            "peak_memory_bytes": 1,
        },
    }


@dataclass
class Service:
    """Answers by (method, path); what was asked is kept. Unset answers are 404."""

    answers: dict[tuple[str, str], list[httpx.Response]] = field(default_factory=dict)
    asked: list[httpx.Request] = field(default_factory=list)

    def set(self, method: str, path: str, *answers: Any) -> None:
        self.answers[method, path] = [_response(answer) for answer in answers]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.asked.append(request)
        queue = self.answers.get((request.method, request.url.path))
        if not queue:
            return problem(404)
        return queue.pop(0) if len(queue) > 1 else queue[0]

    def serve_patch(self, manifest: bytes, data: bytes, *, published: bool = True) -> None:
        view = {
            "id": PATCH,
            "job_id": JOB,
            "created_at": "2026-01-02T03:04:00Z",
            "published": published,
            "model_version": 1 if published else None,
            "manifest": json.loads(manifest),
        }
        self.set("GET", f"/patches/{PATCH}", view)
        self.set("GET", f"/patches/{PATCH}/patch.safetensors", data)
        self.set("GET", f"/jobs/{JOB}/evaluation", report())


def _response(answer: Any) -> httpx.Response:
    if isinstance(answer, httpx.Response):
        return answer
    if isinstance(answer, bytes):
        return httpx.Response(200, content=answer, headers={"etag": '"e"'})
    body = answer if isinstance(answer, dict) else json.loads(answer.model_dump_json())
    return httpx.Response(200, json=body)
