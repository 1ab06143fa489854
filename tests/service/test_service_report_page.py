"""The page says what the report says, names nobody, and needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from front_world import SECRET_NAME, World
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from api_schemas import methods
from api_schemas.families import Family
from api_schemas.jobs import JobView, Outcome
from api_schemas.reports import Report, Verdict
from api_schemas.requests import Probe
from service import examples, plots, report_page, report_words

#: Reports of real runs on the shipped models; pictures and scores are cut short. That of the
#: vision-language model is put together from a row of docs/results.
REPORTS = {path.stem: path for path in sorted((Path(__file__).parent / "reports").glob("*.json"))}
FAMILIES = {
    "reference-clip": Family.CLIP,
    "reference-diffusion": Family.DIFFUSION,
    "reference-llava": Family.VLM,
}


def finding(name: str, **changes: Any) -> report_page.Finding:
    """What the page of this report is made of; the changes are the report's."""
    stored = json.loads(REPORTS[name].read_text())
    report = Report.model_validate(stored["report"] | changes)
    has_patch = bool(report.edited)
    job = JobView.model_validate(
        examples.BY_SCHEMA["JobView"]
        | {
            "status": stored["status"],
            "outcome": stored["outcome"],
            "model": stored["model"],
            "method": report.method,
            "dry_run": stored["dry_run"],
            "metadata": {"note": SECRET_NAME},
            "result": {
                "verdict": None if report.gate is None else report.gate.verdict,
                "patch_id": "pat_" + "0" * 32 if has_patch else None,
                "model_version": 7 if stored["outcome"] == Outcome.PATCHED else None,
                "revoked_at": None,
                "rerun": None,
            },
        }
    )
    return report_page.Finding(
        job=job,
        report=report,
        family=FAMILIES[stored["model"]],
        checkpoint_digest="sha256:" + "1d" * 32,
        method=TypeAdapter(methods.Method).validate_python(stored["method"]),
        probes=tuple(Probe(probe) for probe in stored["probes"]),
        patch_sha256="ab" * 32 if has_patch else None,
    )


class Reader(HTMLParser):
    """Reads a page as a browser would; an element that is left open or closed twice shows."""

    VOID = frozenset({"meta", "img", "line", "circle", "rect"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: dict[str, int] = {}
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.style = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(params=[*REPORTS, "several"])
def example(request: pytest.FixtureRequest) -> report_page.Finding:
    return several() if request.param == "several" else finding(request.param)


def test_there_is_a_report_of_every_family_and_every_ending() -> None:
    found = [finding(name) for name in REPORTS]
    assert {one.family for one in found} == set(Family)
    assert {one.job.outcome for one in found} >= {
        Outcome.PATCHED,
        Outcome.GATE_REFUSED,
        Outcome.DRY_RUN,
        Outcome.NOTHING_TO_FORGET,
    }
    assert any(one.report.pictures for one in found)


def several() -> report_page.Finding:
    """Two targets in one request, one of them unknown to the model, and an earlier one."""
    one = finding("clip").report.model_dump(mode="json")
    second = [metric | {"target": 1} for metric in one["metrics"]]
    again = one["metrics"][0] | {"id": "M1_earlier"}
    checks = one["gate"]["checks"]
    return finding(
        "clip",
        preflight=[*one["preflight"], one["preflight"][0] | {"target": 1, "known": False}],
        metrics=[*one["metrics"], *second],
        earlier=[{"version": 3, "metric": again}],
        gate=one["gate"] | {"checks": [*checks, *checks, checks[0] | {"metric": "M1_earlier"}]},
    )


def test_several_targets_are_told_apart_by_number() -> None:
    found = several()
    words = Reader(report_page.render(found)).text
    assert "Target 1 of 2" in words
    assert "Target 2 of 2" in words
    assert "version 3, target 1" in words
    assert "left alone: 2." in " ".join(report_words.verdict(found.job, found.report).lines)
    assert "Target 1 of" not in Reader(report_page.render(finding("clip"))).text


def test_the_page_loads_and_runs_nothing(example: report_page.Finding) -> None:
    page = report_page.render(example)
    read = Reader(page)
    assert not read.open
    assert not {"script", "link", "iframe", "object", "embed", "form", "a", "base"} & set(read.tags)
    for name, value in read.attributes:
        assert name not in {"style", "srcset", "href"}
        assert not name.startswith("on")
        assert name != "src" or value.startswith("data:image/png;base64,")
    assert "url(" not in read.style
    assert "@import" not in read.style
    assert "//" not in page.replace(report_page.policy(), "").replace("base64", "").split("src=")[0]


def test_the_policy_allows_this_style_and_no_other(example: report_page.Finding) -> None:
    read = Reader(report_page.render(example))
    digest = base64.b64encode(hashlib.sha256(read.style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in report_page.policy()
    assert "default-src 'none'" in report_page.policy()
    assert "unsafe" not in report_page.policy()
    assert ("content", report_page.policy()) in read.attributes


def test_the_page_says_what_the_report_says(example: report_page.Finding) -> None:
    report, read = example.report, Reader(report_page.render(example))
    words = read.text
    for metric in (*report.metrics, *report.robustness, *(e.metric for e in report.earlier)):
        assert metric.id in words
        assert " ".join(metric.definition.split()) in words
        for found in (metric.before, metric.after, metric.change):
            for value in (found.value, *found.interval):
                assert plots.short(value) in words
        assert str(metric.after.n) in words
    for check in report.gate.checks if report.gate is not None else []:
        assert f"{check.rule} {plots.short(check.threshold)}; found {plots.short(check.found)}" in (
            words
        )
    for unit in report.edited:
        assert unit.unit in words
        assert f"{100 * unit.step_ratio:.2f} %" in words
    for name in type(example.method).model_fields:
        assert name == "method" or name in words
    for warning in report.warnings:
        assert " ".join(warning.split()) in words
    for role in ("target", "retain"):
        for use in ("fit", "select", "test"):
            assert str(getattr(report.roles, f"{role}_{use}")) in words
    assert read.tags.get("img", 0) == len(report.pictures)
    assert "What was not measured, and what this does not prove" in words
    assert "is no proof of absence" in words
    plotted = len(report.metrics) + len(report.robustness) + len(report.earlier)
    assert read.tags.get("circle", 0) == 2 * plotted


def test_pictures_that_are_deleted_are_told_and_not_shown() -> None:
    kept = finding("diffusion")
    grids = [grid.model_dump() | {"png": None} for grid in kept.report.pictures]
    gone = Reader(report_page.render(finding("diffusion", pictures=grids)))
    assert gone.tags.get("img", 0) == 0
    (grid,) = kept.report.pictures
    assert (
        f"{grid.of_target} pictures of the target and {grid.of_retained} of something" in gone.text
    )
    assert "the service deleted them with the samples" in gone.text
    assert "keep this page as you keep the samples" not in gone.text
    shown = Reader(report_page.render(kept))
    assert "keep this page as you keep the samples" in shown.text
    assert "deleted them" not in shown.text


def test_the_same_finding_is_the_same_page(example: report_page.Finding) -> None:
    assert report_page.render(example) == report_page.render(example)
    assert SECRET_NAME not in report_page.render(example)


def test_a_check_of_an_earlier_target_says_so() -> None:
    one = finding("clip").report.model_dump(mode="json")
    checks = one["gate"]["checks"]
    found = finding(
        "clip",
        earlier=[{"version": 3, "metric": one["metrics"][0] | {"id": "M1_earlier"}}],
        gate=one["gate"] | {"checks": [*checks, checks[0] | {"metric": "M1_earlier"}]},
    )
    gate = Reader(report_page.render(found)).text.split("What the gate checked")[1]
    assert "version 3, target 1" in gate.split("Did the model know")[0]


def test_the_verdict_is_one_sentence_that_fits_the_ending() -> None:
    begins = {
        Outcome.PATCHED: "Passed: ",
        Outcome.GATE_REFUSED: "Refused: ",
        Outcome.DRY_RUN: "Dry run: ",
        Outcome.NOTHING_TO_FORGET: "Nothing to forget: ",
    }
    for name in REPORTS:
        found = finding(name)
        said = report_words.verdict(found.job, found.report)
        assert found.job.outcome is not None
        assert said.sentence.startswith(begins[found.job.outcome])
        assert ("version 7" in said.sentence) is (found.job.outcome is Outcome.PATCHED)


@pytest.mark.parametrize(
    ("verdict", "words"),
    [(Verdict.FAIL, "still shows the target"), (Verdict.PARTIAL, "something else was harmed")],
)
def test_a_refusal_says_which_side_failed(verdict: Verdict, words: str) -> None:
    found = finding("diffusion")
    assert found.report.gate is not None
    gate = found.report.gate.model_copy(update={"verdict": verdict})
    report = found.report.model_copy(update={"gate": gate})
    assert words in report_words.verdict(found.job, report).sentence


def test_failed_and_weak_checks_are_named_with_the_verdict() -> None:
    found = finding("diffusion")
    assert found.report.gate is not None
    lines = " ".join(report_words.verdict(found.job, found.report).lines)
    for check in found.report.gate.checks:
        named = re.search(rf"\b{check.metric}\b", lines) is not None
        assert named is (check.weak or not check.passed)


def test_attacks_that_nobody_asked_for_are_said() -> None:
    found = finding("clip")

    def said(probes: tuple[Probe, ...]) -> str:
        return " ".join(report_words.limits(found.report, found.family, probes, []))

    for probe, words in report_words.ATTACKS.items():
        assert words in said(())
        assert words not in said((probe,))
    assert set(report_words.ATTACKS) == set(Probe)


def test_what_a_report_holds_is_text_never_markup() -> None:
    hostile = "<img src=x onerror=alert(1)> & <script>"
    page = report_page.render(finding("clip", warnings=[hostile]))
    assert hostile not in page
    assert html.escape(hostile) in page


PERCENT = st.floats(0, 100)


@given(before=PERCENT, after=PERCENT, threshold=PERCENT)
def test_the_plot_puts_marks_where_the_figures_are(
    before: float, after: float, threshold: float
) -> None:
    found = finding("clip").report
    assert found.gate is not None
    metric, check = found.metrics[0], found.gate.checks[0]
    point = metric.after.model_copy(update={"value": after, "interval": (after, after)})
    left = metric.before.model_copy(update={"value": before, "interval": (0.0, before)})
    metric = metric.model_copy(update={"before": left, "after": point, "unit": "percent"})
    check = check.model_copy(update={"rule": "after at most", "threshold": threshold})
    svg = str(plots.whiskers((metric, check)))
    first, second = (float(x) for x in re.findall(r'<circle cx="([\d.]+)"', svg))
    limit = float(re.findall(r'class="limit" x1="([\d.]+)"', svg)[0])
    width = plots.RIGHT - plots.LEFT
    for value, x in ((before, first), (after, second), (threshold, limit)):
        assert x == pytest.approx(plots.LEFT + width * value / 100, abs=0.06)
    assert f'x1="{float(plots.LEFT)}" y1="{plots.BEFORE_Y}" x2="{first}"' in svg


def test_the_limit_of_a_fall_stands_that_far_below_the_start() -> None:
    report = finding("clip").report
    assert report.gate is not None
    metric = report.metrics[0]
    check = report.gate.checks[0].model_copy(update={"rule": "falls by at most", "threshold": 2})
    assert plots.limit_of(metric, check) == metric.before.value - 2


def test_the_page_over_http(front: World, http: TestClient) -> None:
    job = front.finished()
    url = http.get(f"/jobs/{job.id}").json()["urls"]["report"]
    answer = http.get(url)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith(report_page.policy())
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "private, no-cache"
    assert job.id in answer.text
    for part in SECRET_NAME.split():
        assert part not in answer.text
    again = http.get(url, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_page_is_pending_absent_or_nobodys(front: World, http: TestClient) -> None:
    waiting = front.accept()
    failed = front.fail(front.claim())
    pending = http.get(f"/jobs/{front.accept()}/report.html")
    assert (pending.status_code, pending.json()["type"]) == (404, "/problems/evaluation-pending")
    assert failed.id == waiting
    absent = http.get(f"/jobs/{failed.id}/report.html")
    assert absent.json()["type"] == "/problems/evaluation-absent"
    nobodys = http.get("/jobs/job_" + "0" * 32 + "/report.html")
    assert nobodys.json()["type"] == "/problems/job-not-found"
