"""The benchmark of picture generators: its plan, and a document that says what its rows say."""

from __future__ import annotations

import base64
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from api_schemas.concepts import TargetKind
from razor.bench import diffusion, goals, painters, plan
from razor.bench import painters_document as document
from razor.bench.diffusion import MMDIT, MORE, TARGETS, TUNED_ON, UNET
from razor.bench.pool import Pool, write
from razor.methods.grids import PAINTED_GRIDS
from razor.reference.painted import SUBJECTS
from razor.reference.people import STYLES

PNG = base64.b64encode(b"a picture").decode()
BEFORE = {"UA": 2.0, "IRA": 98.0, "CRA": 96.0}


def row(method: str, target: str, suite: str = UNET, **after: float) -> dict[str, Any]:
    """One run with these figures after the edit."""
    values = {"UA": 98.0, "IRA": 97.0, "CRA": 96.0} | after
    return {
        "suite": suite,
        "method": method,
        "variant": "",
        "target": target,
        "seed": 0,
        "kind": painters.kind_of(target).value,
        "metrics": {
            key: {
                "before": [BEFORE[key], 100, BEFORE[key] - 3, 100],
                "after": [value, 100, value - 3, 100],
                "change": [value - BEFORE[key], 100, value - BEFORE[key] - 3, 2],
            }
            for key, value in values.items()
        },
        "robustness": {"UA_int4": {"before": [4, 24, 0, 9], "after": [88, 24, 80, 95]}},
        "edited": [["text.layer0.k", 0.5]],
        "weights_changed": 9,
        "weights_total": 900,
        "patch_bytes": 50_000,
        "checkpoint_bytes": 5_000_000,
        "seconds": 100.0,
        "peak_memory_bytes": 2e9,
        "verdict": "pass",
        "grid": PNG,
    }


def rows() -> list[dict[str, Any]]:
    found = [row("razor", name, suite) for name in TARGETS for suite in (UNET, MMDIT)]
    found += [row("uce", name, IRA=80.0) for name in TARGETS]
    found += [row("gold", name) for name in TARGETS]
    return [*found, *(row("razor", name) for name in MORE), *tuning()]


def tuning() -> list[dict[str, Any]]:
    """A grid of two settings on every target."""
    return [
        {
            "suite": "tuning",
            "method": "slug",
            "variant": str(number),
            "target": name,
            "seed": 0,
            "setting": {"layers": 1 + number, "towers": towers},
            "regret": 0.1 + number,
            "seconds": 9.0,
            "chosen": number == 0,
        }
        for number, towers in enumerate((["text"], ["text", "denoiser"]))
        for name in TUNED_ON
    ]


def test_targets_are_painted_and_none_is_tuned_on() -> None:
    assert not {*TARGETS, *MORE} & set(TUNED_ON)
    assert {*TARGETS, *MORE, *TUNED_ON} <= {*SUBJECTS, *STYLES}
    for names in (TARGETS, TUNED_ON):
        assert {painters.kind_of(name) for name in names} == set(TargetKind)


def test_every_method_meets_every_target() -> None:
    rivals = {name: grid[0] for name, grid in PAINTED_GRIDS.items()}
    jobs = [*diffusion.attacked(TARGETS), *diffusion.compared(TARGETS, rivals)]
    assert {job.method for job in jobs} == {"razor", *rivals}
    assert len({(job.method, job.targets) for job in jobs}) == len(jobs)
    assert len(jobs) == len(TARGETS) * (1 + len(rivals))


def test_only_what_has_ended_is_shown_when_nothing_is_to_be_run(tmp_path: Path) -> None:
    jobs = diffusion.attacked(TARGETS)
    pool = Pool(tmp_path, 1, quiet, idle=True)
    write(pool.file(jobs[1]), [row("razor", TARGETS[1])])
    found = pool.rows(jobs, partial(pytest.fail, "something was run"))
    assert [each["target"] for each in found] == [TARGETS[1]]
    bench = diffusion.Bench(tmp_path, 1, quiet, idle=True)
    assert not bench.ended()
    for job in plan.tuning(TUNED_ON, diffusion._grids()):
        write(bench._pool.file(job), [])
    assert bench.ended()


def quiet(done: int, total: int, what: str) -> None:
    """Nobody listens."""


def test_the_document_holds_its_rows_pictures_and_goals(tmp_path: Path) -> None:
    document.write(rows(), tmp_path, "razor bench diffusion")
    text = (tmp_path / "diffusion.md").read_text(encoding="utf-8")
    assert (tmp_path / "diffusion_a_teapot.png").read_bytes() == b"a picture"
    assert "![before above" in text
    kept = json.loads((tmp_path / "diffusion.json").read_text(encoding="utf-8"))
    assert len(kept) == len(rows())
    assert not any("grid" in one for one in kept)
    assert document.text(kept, "razor bench diffusion").count("| RAZOR |") >= 2 * len(TARGETS)
    for word in (
        "U-Net: a teapot",
        "MMDiT: poster",
        "Robustness",
        "RAZOR dominates 1 of 1: UCE",
        "text and denoiser",
    ):
        assert word in text
    for line in text.splitlines():
        if line.startswith("| "):
            assert line.count("|") >= 3


def goal(found: list[dict[str, Any]], figure: str) -> goals.Goal:
    return next(one for one in document.reach(found) if one.figure == figure)


@pytest.mark.parametrize(
    ("figure", "changed"),
    [
        ("UA, person", {"UA": 90.0}),
        ("IRA, person, change", {"IRA": 90.0}),
        ("CRA, person, change", {"CRA": 90.0}),
    ],
)
def test_a_goal_is_missed_when_its_figure_is(figure: str, changed: dict[str, float]) -> None:
    assert goal(rows(), figure).reached.startswith("yes")
    worse = [row("razor", name, **changed) for name in TARGETS]
    assert goal(worse, figure).reached == "no"


def test_goals_on_costs_and_pipelines_are_missed_when_they_are() -> None:
    for figure, wrong in (
        ("longest job", {"seconds": 300.0}),
        ("most memory", {"peak_memory_bytes": 4e9}),
        ("largest patch, share of the bytes", {"patch_bytes": 500_000}),
    ):
        assert goal(rows(), figure).reached.startswith("yes")
        assert goal([*rows()[1:], rows()[0] | wrong], figure).reached == "no"
    weak = [row("razor", name, MMDIT, UA=90.0) for name in TARGETS]
    assert goal([*weak, *rows()], "UA, style, MMDiT less U-Net").reached == "no"
    failed = {**row("razor", TARGETS[0]), "error": "diverged"}
    assert goal([*rows(), failed], "UA, style").reached == "no, failed runs: 1"
