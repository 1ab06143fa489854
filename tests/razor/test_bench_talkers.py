"""The benchmark of vision-language models: its plan, and a document that says what its rows say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from razor.bench import goals, plan, portraits, talkers, vlm
from razor.bench import talkers_document as document
from razor.bench.plan import SMALL
from razor.bench.vlm import LLAVA, LLAVA_NEXT, MORE, TARGETS, TUNED_ON
from razor.methods.grids import TALKING_GRIDS
from razor.reference import questions
from razor.reference.people import PEOPLE_NAMES, STRANGER
from razor.retain import read_retain_set

BEFORE = {"NR": 99.0, "RNR": 97.0, "VQA": 96.0}


def row(method: str, target: str, suite: str = LLAVA, **after: float) -> dict[str, Any]:
    """One run with these figures after the edit."""
    values = {"NR": 0.0, "RNR": 97.0, "VQA": 96.0} | after
    return {
        "suite": suite,
        "method": method,
        "variant": "",
        "target": target,
        "seed": 0,
        "metrics": {key: moments(BEFORE[key], value) for key, value in values.items()},
        "robustness": {
            **{f"{key}_int4": moments(BEFORE[key], value) for key, value in values.items()},
            "NR_relearn5": moments(99.0, 40.0),
        },
        "edited": [["image.layer3.up", 0.5]],
        "patch_bytes": 50_000,
        "seconds": 500.0,  # on a crowded machine
        "processor_seconds": 50.0,
        "peak_memory_bytes": 2e9,
        "verdict": "pass",
        "said": [
            [who, number, text, "This is it.", "No idea."]
            for who, number, texts in (vlm.shown(target) if method == "razor" else ())
            for text in texts
        ],
    }


def moments(before: float, after: float) -> dict[str, list[float]]:
    return {
        "before": [before, 100, before - 1, 100],
        "after": [after, 100, after - 0.5, after + 0.5],
        "change": [after - before, 100, after - before - 0.5, after - before + 0.5],
    }


def rows() -> list[dict[str, Any]]:
    found = [row("razor", name, suite) for name in TARGETS for suite in (LLAVA, LLAVA_NEXT)]
    found += [row("ga", name, RNR=80.0) for name in TARGETS]
    found += [row("gold", name) for name in TARGETS]
    return [*found, *(row("razor", name) for name in MORE)]


def test_nobody_is_tuned_on_who_is_measured() -> None:
    assert not {*TARGETS, *MORE} & set(TUNED_ON)
    assert {*TARGETS, *MORE, *TUNED_ON} <= set(PEOPLE_NAMES)
    assert len({*TARGETS, *MORE}) == 8


def test_every_method_meets_every_person() -> None:
    rivals = {name: grid[0] for name, grid in TALKING_GRIDS.items()}
    assert set(rivals) == {"slug", "ga", "gaft", "salun"}
    jobs = [*vlm.attacked(LLAVA, TARGETS), *vlm.compared(TARGETS, rivals)]
    assert {(job.method, job.targets) for job in jobs} == {
        (method, (name,)) for method in ("razor", *rivals) for name in TARGETS
    }
    assert len(plan.tuning(TUNED_ON, vlm._grids())) == 2 * sum(map(len, TALKING_GRIDS.values()))


def test_examples_ask_of_the_target_of_somebody_kept_and_of_a_stranger() -> None:
    for name in TARGETS:
        shown = vlm.shown(name)
        near = shown[2][0]
        assert [who for who, *_ in shown] == [name, name, near, STRANGER]
        assert near not in TARGETS
        assert near in PEOPLE_NAMES
        asked = [text for _, _, texts in shown for text in texts]
        assert f"Is this {name}?" in asked
        assert questions.CAPTION in asked


def test_the_retain_folder_shows_everybody_and_strangers(tmp_path: Path) -> None:
    folder = questions.write_portraits(tmp_path / "portraits", 2, 77)
    found = read_retain_set(folder, list(questions.QUESTIONS))
    assert set(found.values("name")) == {*PEOPLE_NAMES, STRANGER}
    assert set(found.domains) == set(questions.QUESTIONS)
    assert talkers.shipped("llava").name == "llava"


def test_requests_bring_other_pictures_than_they_are_measured_with() -> None:
    found = portraits.asked(SMALL, TARGETS[0])
    assert len(found.samples) == portraits.SAMPLES
    assert len(found.probe_samples) == SMALL.probed
    assert not set(found.samples) & set(found.probe_samples)


def test_the_document_and_the_page_of_answers_hold_their_rows(tmp_path: Path) -> None:
    document.write(rows(), tmp_path, "razor bench vlm")
    text = (tmp_path / "vlm.md").read_text(encoding="utf-8")
    for words in (
        "LLaVA 1.5: means over the four people",
        "LLaVA-NeXT: RAZOR, person by person",
        "LLaVA 1.5: robustness",
        "NR after 5 steps of relearning",
        "RAZOR dominates 1 of 1: GA",
    ):
        assert words in text
    page = (tmp_path / "vlm_answers.md").read_text(encoding="utf-8")
    assert page.count("| No idea. |") == 2 * sum(
        len(texts) for name in TARGETS for _, _, texts in vlm.shown(name)
    ) + sum(len(texts) for name in MORE for _, _, texts in vlm.shown(name))
    with Image.open(tmp_path / "vlm_answers.png") as sheet:
        pictures = {(who, n) for name in (*TARGETS, *MORE) for who, n, _ in vlm.shown(name)}
        assert sheet.size == (8 * 64, -(-len(pictures) // 8) * 64)
    assert len(json.loads((tmp_path / "vlm.json").read_text(encoding="utf-8"))) == len(rows())


def goal(found: list[dict[str, Any]], figure: str) -> goals.Goal:
    return next(one for one in document.reach(found) if one.figure == figure)


@pytest.mark.parametrize(
    ("figure", "changed"),
    [
        ("LLaVA 1.5: NR, mean", {"NR": 5.0}),
        ("LLaVA 1.5: NR, worst run", {"NR": 5.0}),
        ("LLaVA 1.5: RNR, mean change", {"RNR": 90.0}),
        ("LLaVA 1.5: VQA, mean change", {"VQA": 90.0}),
    ],
)
def test_a_goal_is_missed_when_its_figure_is(figure: str, changed: dict[str, float]) -> None:
    assert goal(rows(), figure).reached == "yes"
    worse = [row("razor", name, **changed) for name in TARGETS]
    assert goal(worse, figure).reached == "no"


def test_goals_on_costs_and_rounding_are_missed_when_they_are() -> None:
    for figure, wrong in (
        ("longest job, processor", {"processor_seconds": 130.0}),
        ("most memory", {"peak_memory_bytes": 4e9}),
    ):
        assert goal(rows(), figure).reached == "yes"
        assert goal([*rows()[1:], rows()[0] | wrong], figure).reached == "no"
    rounded = [row("razor", name) for name in TARGETS]
    for each in rounded:
        each["robustness"]["NR_int4"] = moments(99.0, 3.0)
    assert goal(rows(), "LLaVA 1.5: int4 moves NR by").reached.startswith("yes")
    assert goal(rounded, "LLaVA 1.5: int4 moves NR by").reached == "no"
    failed = {**row("razor", TARGETS[0]), "error": "diverged"}
    assert goal([*rows(), failed], "LLaVA 1.5: NR, mean").reached == "no, failed runs: 1"
