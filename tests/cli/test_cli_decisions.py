"""``razor retry``, ``approve``, ``decline``, ``extend``; ``models revoke`` and ``weights``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from cli_world import JOB, MOMENT, Run, Service, done, job, problem, report

from api_schemas.decisions import Affected, ApprovalView, Revoked
from api_schemas.jobs import JobStatus
from api_schemas.reasons import ExtensionReason, RevocationReason
from api_schemas.shelf import GateThresholds, ModelView

VIEW = ModelView(
    id="toy",
    family="clip",
    digest="sha256:" + "0" * 64,
    domains=["name"],
    methods=["razor"],
    thresholds=GateThresholds(),
    latest_version=3,
    created_at=MOMENT,
)


@pytest.mark.parametrize(
    ("command", "sent"),
    [
        (("retry", JOB), None),
        (("approve", JOB), {}),
        (("approve", JOB, "--reason", "policy"), {"reason": "policy"}),
        (("decline", JOB, "--reason", "duplicate"), {"reason": "duplicate"}),
    ],
)
def test_a_decision_is_sent_and_the_job_shown(
    run: Run, service: Service, command: tuple[str, ...], sent: object
) -> None:
    view = job(JobStatus.QUEUED, approval=ApprovalView(decision=None, reason=None, decided_at=None))
    service.set("POST", f"/jobs/{JOB}/{command[0]}", view)
    found = run(*command)
    assert (found.code, JOB in found.out, "queued" in found.out) == (0, True, True)
    body = service.asked[-1].content
    assert (json.loads(body) if body else None) == sent


def test_a_reason_that_is_none_of_the_list_is_refused_before_anything_is_sent(
    run: Run, service: Service
) -> None:
    for command in (("approve", JOB), ("extend", JOB), ("models", "revoke", "toy", "1")):
        assert run(*command, "--reason", "she asked").code == 2
    assert service.asked == []


def test_an_extension_says_both_dates(run: Run, service: Service) -> None:
    extended = job(
        JobStatus.QUEUED,
        due_at=datetime(2026, 5, 1, tzinfo=UTC),
        extended_from=datetime(2026, 3, 1, tzinfo=UTC),
        extension_reason=ExtensionReason.COMPLEXITY,
    )
    service.set("POST", f"/jobs/{JOB}/extend", extended)
    found = run("extend", JOB, "--reason", "complexity", "--until", "2026-05-01")
    assert "due 2026-05-01 instead of 2026-03-01" in found.out
    sent = json.loads(service.asked[-1].content)
    assert sent == {"reason": "complexity", "until": "2026-05-01T00:00:00Z"}
    service.set("POST", f"/jobs/{JOB}/extend", problem(409))
    assert run("extend", JOB, "--reason", "complexity").code == 1


def test_a_revocation_tells_what_went_along(run: Run, service: Service) -> None:
    told = Revoked(
        model="toy",
        version=1,
        reason=RevocationReason.DEFECT,
        revoked_at=MOMENT,
        latest_version=0,
        affected=[
            Affected(version=2, job_id="job_2", state="queued", rerun="job_4"),
            Affected(version=3, job_id=None, state="post_again", rerun=None),
        ],
    )
    service.set("POST", "/models/toy/versions/1/revoke", told)
    found = run("models", "revoke", "toy", "1", "--reason", "defect")
    assert "version 1 of toy is revoked; the latest is 0" in found.out
    second, third = found.out.splitlines()[-2:]
    assert second.split() == ["2", "job_2", "queued", "job_4"]
    assert third.split()[-2:] == ["post_again", "-"]


def test_a_version_that_was_revoked_is_told_with_its_job(run: Run, service: Service) -> None:
    view = done()
    assert view.result is not None
    result = view.result.model_copy(update={"revoked_at": MOMENT})
    service.set("GET", f"/jobs/{JOB}", view.model_copy(update={"result": result}))
    assert "post the request again" in run("status", JOB).out
    again = result.model_copy(update={"rerun": "job_4"})
    service.set("GET", f"/jobs/{JOB}", view.model_copy(update={"result": again}))
    assert "made anew by job_4" in run("status", JOB).out


def test_weights_of_the_latest_version_unless_one_is_named(
    run: Run, service: Service, tmp_path: Path
) -> None:
    service.set("GET", "/models/toy", VIEW)
    for number, options in ((3, ()), (0, ("--version", "0"))):
        data = f"weights {number}".encode()
        headers = {"etag": f'"{number}"', "content-length": str(len(data))}
        path = f"/models/toy/versions/{number}/weights"
        service.set("HEAD", path, httpx.Response(200, headers=headers))
        service.set("GET", path, httpx.Response(200, content=data))
        out = tmp_path / f"{number}.safetensors"
        found = run("models", "weights", "toy", "--out", str(out), *options)
        assert (found.code, out.read_bytes()) == (0, data)
    tar = httpx.Response(200, headers=headers | {"content-type": "application/x-tar"})
    service.set("HEAD", path, tar)
    out = tmp_path / "x.safetensors"
    assert run("models", "weights", "toy", "--version", "0", "--out", str(out)).code == 2
    assert not out.exists()


def test_a_dry_run_says_what_it_foretells(run: Run, service: Service) -> None:
    estimate = {
        "units": ["visual.1.out"],
        "weights": 4096,
        "seconds": [3.0, 60.0],
        "forward_passes": [10, 200],
        "backward_passes": [4, 4],
        "peak_memory_bytes": 2**21,
        "based_on": "1% of the steps.",
        "leaves_out": ["quantize"],
    }
    service.set("GET", f"/jobs/{JOB}", done())
    evaluation = report() | {"gate": None, "estimate": estimate}
    service.set("GET", f"/jobs/{JOB}/evaluation", evaluation)
    shown = run("status", JOB, "--report").out
    assert "would edit 4096 weights in 1 units first" in shown
    assert "would take 3.0 to 60.0 s, 10 to 200 forward and 4 backward passes, 2 MiB" in shown
    assert "attacks quantize" in shown
    # A report of a release before estimates is read as it is.
    service.set("GET", f"/jobs/{JOB}/evaluation", report() | {"gate": None})
    assert "would" not in run("status", JOB, "--report").out
