from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_world import (
    GOLDEN,
    JOB,
    PATCH,
    Run,
    Service,
    check,
    done,
    failed,
    job,
    metric,
    preflight,
    report,
)

from api_schemas.jobs import JobPage, JobStatus, JobView
from cli import console, figures
from patches.verify import verify

MANIFEST = (GOLDEN / "patch/manifest.json").read_bytes()
EVALUATION = f"/jobs/{JOB}/evaluation"
DATA = (GOLDEN / "patch/patch.safetensors").read_bytes()


def test_status_is_one_line(run: Run, service: Service) -> None:
    service.set("GET", f"/jobs/{JOB}", job())
    found = run("status", JOB)
    assert (found.code, found.out) == (0, f"{JOB}  running  edit  50%  about 8 s left\n")


def test_status_as_json_is_the_services_answer(run: Run, service: Service) -> None:
    service.set("GET", f"/jobs/{JOB}", done())
    assert JobView.model_validate_json(run("status", JOB, "--json").out) == done()


def test_status_without_a_job_lists_the_latest(run: Run, service: Service) -> None:
    service.set("GET", "/jobs", JobPage(items=[job(), failed()], next=None))
    lines = run("status").out.splitlines()
    assert lines[0].split() == ["job", "status", "model", "created", "(UTC)", "due"]
    assert [line.split()[1] for line in lines[1:]] == ["running", "failed"]


def test_a_report_is_a_table_with_intervals_thresholds_and_warnings(
    run: Run, service: Service
) -> None:
    service.set("GET", f"/jobs/{JOB}", done())
    service.set("GET", f"/jobs/{JOB}/evaluation", report())
    found = run("status", JOB, "--report")
    assert found.code == 0
    for part in (
        "97.5 [96.5, 98.5]",
        "2.5 [1.5, 3.5]",
        "after at most 5",
        "pass with 2.5, weak",
        "verdict: pass, on weak evidence",
        "warning: few pictures",
        "12 of 1200 weights (1.00%)",
    ):
        assert part in found.out
    assert "\x1b" not in found.out


def test_a_report_has_a_block_for_each_target_attacks_and_earlier_targets(
    run: Run, service: Service
) -> None:
    earlier = metric(0.5, id="M1_earlier", target=1)
    several = report() | {
        "preflight": [preflight(0), preflight(1)],
        "metrics": [metric(1.0), metric(9.0, target=1)],
        "robustness": [metric(33.0, id="M1_int4", target=1)],
        "earlier": [{"version": 3, "metric": earlier}],
        "gate": {
            "verdict": "fail",
            "weak_evidence": True,
            "checks": [check(1.0), check(9.0), check(0.5, metric="M1_earlier")],
        },
    }
    service.set("GET", f"/jobs/{JOB}", done())
    service.set("GET", f"/jobs/{JOB}/evaluation", several)
    out = run("status", JOB, "--report").out
    first, second, attacks, before = (
        out.index(words)
        for words in ("target 1 of 2: on", "target 2 of 2: on", "2 of 2: attacks", "earlier vers")
    )
    assert first < out.index("pass with 1.0") < second < out.index("FAIL with 9.0") < attacks
    assert attacks < out.index("33.0 [32.0, 34.0]") < before < out.index("pass with 0.5")
    row = next(line for line in out.splitlines() if "M1_earlier" in line)
    assert row.split()[:3] == ["version", "3", "2"]
    assert "target 1 of 2: attacks" not in out


def test_a_single_target_has_no_number(run: Run, service: Service) -> None:
    service.set("GET", f"/jobs/{JOB}", done())
    service.set("GET", f"/jobs/{JOB}/evaluation", report())
    assert "target 1 of" not in run("status", JOB, "--report").out


@pytest.mark.parametrize(("value", "text"), [(-0.04, "0.0"), (0.04, "0.0"), (-0.06, "-0.1")])
def test_there_is_no_minus_zero(value: float, text: str) -> None:
    assert figures._rounded(value) == text


@pytest.mark.parametrize(
    ("view", "code"),
    [
        (done(), 0),
        (done(version=None), 1),
        (failed(), 1),
        (job(JobStatus.CANCELED), 1),
    ],
)
def test_waiting_ends_as_the_job_ends(run: Run, service: Service, view: JobView, code: int) -> None:
    service.set("GET", f"/jobs/{JOB}", job(), view)
    found = run("wait", JOB)
    assert found.code == code
    assert (found.err.count("razor: ") == 1) == (code == 1)


def test_waiting_too_long_says_so(run: Run, service: Service) -> None:
    service.set("GET", f"/jobs/{JOB}", job())
    found = run("wait", JOB, "--timeout", "0.1")
    assert found.code == 1
    assert "wait longer" in found.err


def test_on_a_terminal_a_bar_shows_the_progress(
    run: Run, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.set("GET", f"/jobs/{JOB}", job(), done())
    monkeypatch.setattr(console, "is_terminal", lambda: True)
    monkeypatch.setattr("cli.follow.is_terminal", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    found = run("wait", JOB)
    assert found.code == 0
    assert "running edit" in found.out
    assert "━" in found.out


def test_cancel_says_where_the_job_stands(run: Run, service: Service) -> None:
    service.set("POST", f"/jobs/{JOB}/cancel", job(JobStatus.CANCELING))
    assert "canceling" in run("cancel", JOB).out


def test_a_download_is_a_patch_that_verifies(run: Run, service: Service, tmp_path: Path) -> None:
    service.set("GET", f"/jobs/{JOB}", done())
    service.serve_patch(MANIFEST, DATA)
    out = tmp_path / "patch"
    found = run("download", JOB, "--out", str(out))
    assert found.code == 0
    assert (out / "patch.safetensors").read_bytes() == DATA
    assert json.loads((out / "report.json").read_text())["patch_bytes"] == 268
    assert all(check.passed for check in verify(out, GOLDEN / "base"))
    assert "note" not in found.err


def test_painted_pictures_come_along_while_they_are_kept(
    run: Run, service: Service, tmp_path: Path
) -> None:
    service.set("GET", f"/jobs/{JOB}", done())
    service.serve_patch(MANIFEST, DATA)
    grid = {"target": 0, "of_target": 4, "of_retained": 3}
    service.set("GET", EVALUATION, report() | {"pictures": [grid | {"png": "cG5n"}]})
    assert run("download", JOB, "--out", str(tmp_path)).code == 0
    assert (tmp_path / "pictures-0.png").read_bytes() == b"png"
    service.set("GET", EVALUATION, report() | {"pictures": [grid | {"png": None}]})
    found = run("download", JOB, "--out", str(tmp_path / "later"))
    assert found.code == 0
    assert "deleted, as the samples are" in found.err
    assert not (tmp_path / "later/pictures-0.png").exists()


def test_a_damaged_download_is_not_kept(run: Run, service: Service, tmp_path: Path) -> None:
    service.set("GET", f"/jobs/{JOB}", done())
    service.serve_patch(MANIFEST, DATA[:-1] + b"x")
    found = run("download", JOB, "--out", str(tmp_path / "patch"))
    assert found.code == 1
    assert not list((tmp_path / "patch").glob("*.safetensors"))


def test_a_manifest_that_lies_about_its_file_is_refused(
    run: Run, service: Service, tmp_path: Path
) -> None:
    manifest = json.loads(MANIFEST)
    manifest["tensors"][0]["slice"] = [[0, 2], [0, 4]]
    service.set("GET", f"/jobs/{JOB}", done())
    service.serve_patch(json.dumps(manifest).encode(), DATA)
    found = run("download", JOB, "--out", str(tmp_path / "patch"))
    assert found.code == 1
    assert "disagree" in found.err


def test_whole_weights_come_under_their_own_name(
    run: Run, service: Service, tmp_path: Path
) -> None:
    weights = (GOLDEN / "patched/model.safetensors").read_bytes()
    service.set("GET", f"/jobs/{JOB}", done())
    service.serve_patch(MANIFEST, DATA)
    for method in ("HEAD", "GET"):
        service.set(method, f"/patches/{PATCH}/weights", weights)
    out = tmp_path / "patch"
    assert run("download", JOB, "--out", str(out), "--weights").code == 0
    assert (out / "weights/model.safetensors").read_bytes() == weights


@pytest.mark.parametrize(("view", "words"), [(job(), "still running"), (failed(), "left no patch")])
def test_a_job_without_a_patch_is_a_no(
    run: Run, service: Service, tmp_path: Path, view: JobView, words: str
) -> None:
    service.set("GET", f"/jobs/{JOB}", view)
    found = run("download", JOB, "--out", str(tmp_path / "patch"))
    assert found.code == 1
    assert words in found.err
    assert not (tmp_path / "patch").exists()


def test_a_refused_patch_comes_with_a_warning(run: Run, service: Service, tmp_path: Path) -> None:
    service.set("GET", f"/jobs/{JOB}", done(version=None))
    service.serve_patch(MANIFEST, DATA, published=False)
    found = run("download", JOB, "--out", str(tmp_path / "patch"))
    assert found.code == 0
    assert "refused this patch" in found.err


def test_a_report_page_is_a_file(run: Run, service: Service, tmp_path: Path) -> None:
    page = b"<!doctype html><title>Unlearning report</title>"
    service.set("GET", f"/jobs/{JOB}/report.html", page)
    out = tmp_path / "new" / "page.html"
    found = run("report", JOB, "--out", str(out))
    assert (found.code, found.out) == (0, f"{out}: {len(page)} bytes\n")
    assert out.read_bytes() == page
