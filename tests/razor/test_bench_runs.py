"""The benchmark's plan and runs: what is run, what is run again, and one landed row recomputed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from api_schemas.concepts import Target
from api_schemas.methods import Razor, Slug
from razor.bench import landed, plan, runs, world
from razor.bench.clip import Bench
from razor.bench.plan import Job
from razor.bench.rows import head
from razor.families import clip
from razor.material import Asked, neighbours
from razor.methods.grids import GRIDS
from razor.reference.clip import read_record, shipped_gold
from razor.reference.people import NAMES
from razor.reference.pictures import FIRST_HELD_OUT, draw_pictures

LANDED = Path(__file__).parents[2] / "docs" / "results" / "clip.json"


def quiet(done: int, total: int, what: str) -> None:
    """Nobody watches."""


def test_every_person_is_in_one_gold_group() -> None:
    assert sorted(name for group in plan.GROUPS for name in group) == sorted(plan.people())
    assert plan.GROUPS[0] == plan.QUICK == read_record(shipped_gold()).without


def test_nobody_shares_a_gold_model_with_a_near_neighbour(reference: clip.Clip) -> None:
    """On the drawings that the groups were made with."""
    drawn = draw_pictures(NAMES, 20, FIRST_HELD_OUT + 500)
    labels = [row.name for row in drawn.rows]
    features = reference.embed_images(drawn.pixels)
    for group in plan.GROUPS:
        for name in group:
            own = [i for i, label in enumerate(labels) if label == name]
            rest = [i for i, label in enumerate(labels) if label != name]
            near = neighbours(features[own], features[rest], [labels[i] for i in rest])
            assert not set(near) & set(group)


def test_a_job_is_named_by_all_that_decides_it() -> None:
    job = Job("clip", "razor", ("Mara Venn",), params=Razor())
    same = Job("clip", "razor", ("Mara Venn",), params=Razor())
    others = [
        Job("clip", "razor", ("Mara Venn",), 1, params=Razor()),
        Job("clip", "razor", ("Mara Venn",), params=Razor(tau=0.4)),
        Job("clip", "razor", ("Mara Venn", "Oskar Brill"), params=Razor()),
        Job("ablation", "razor", ("Mara Venn",), params=Razor()),
    ]
    assert job.key() == same.key()
    assert len({job.key(), *(other.key() for other in others)}) == 5


def test_the_plan_runs_every_method_on_every_target() -> None:
    jobs = [
        *plan.pairs(plan.QUICK, plan.RIVALS["slug"], 0),
        *plan.golds(plan.QUICK),
        *plan.others(plan.QUICK, plan.RIVALS),
    ]
    assert {job.method for job in jobs} == {"razor", "gold", *GRIDS}
    assert len({(job.method, job.targets) for job in jobs}) == len(jobs) == 8 * len(plan.QUICK)


def test_ablations_switch_one_part_off_each() -> None:
    whole = Razor().model_dump()
    for variant, params in plan.ABLATIONS.items():
        changed = {k for k, v in params.model_dump().items() if v != whole[k]}
        assert len(changed) == 1, variant


def test_the_setting_of_least_mean_regret_is_taken() -> None:
    grid = (Slug(layers=1), Slug(layers=2), Slug(layers=3))
    regrets = [[0.5, 0.1], [0.2, 0.2], [0.2, 0.2]]
    rows: list[Mapping[str, Any]] = [
        {"method": "slug", "params": plan.named(params), "regret": value}
        for params, values in zip(grid, regrets, strict=True)
        for value in values
    ]
    assert plan.best({"slug": grid}, rows) == {"slug": grid[1]}


def test_every_grid_has_one_budget_and_at_most_six_settings() -> None:
    for method, grid in GRIDS.items():
        assert 1 < len(grid) <= 6, method
        budgets = {(getattr(p, "steps", 0), getattr(p, "search_evaluations", 0)) for p in grid}
        assert len(budgets) == 1, method


def test_what_has_run_is_not_run_again(tmp_path: Path) -> None:
    job = Job("clip", "razor", ("Mara Venn",), params=Razor())
    file = tmp_path / "rows" / f"{job.key()}.json"
    file.parent.mkdir()
    file.write_text(json.dumps([{"method": "razor", "from": "the file"}]))
    assert Bench(tmp_path, 1, quiet)._run([job]) == [{"method": "razor", "from": "the file"}]


@pytest.mark.skipif(not LANDED.is_file(), reason="no comparison has been landed yet")
def test_a_landed_row_is_found_again(tmp_path: Path) -> None:
    """Drawn, edited and measured anew. Another machine may round a picture to the other side."""
    rows = json.loads(LANDED.read_text(encoding="utf-8"))
    name = "Oskar Brill"
    before = next(
        row
        for row in rows
        if (row["suite"], row["method"], row["target"], row["seed"]) == ("clip", "razor", name, 0)
    )
    base = world.reference(tmp_path)
    params = Razor(**before["params"])
    (row,) = runs.run(base, Job("clip", "razor", (name,), params=params, probes=()))
    assert [unit for unit, _ in row["edited"]] == [unit for unit, _ in before["edited"]]
    for key, figures in before["metrics"].items():
        for moment in ("before", "after"):
            value, n, _, _ = figures[moment]
            again, m, _, _ = row["metrics"][key][moment]
            assert m == n
            assert again == pytest.approx(value, abs=12 if key == "M3" else 5), key


def test_what_a_line_never_forgot_is_not_said_to_come_back(tmp_path: Path) -> None:
    """Someone the model never heard of, then somebody it knows: one measurement, and no more."""
    drawn = plan.Drawings(6, 7, 8, probed=4, retained=8)
    base = world.reference(tmp_path, drawn)
    known = base.asked

    def asked(name: str) -> Asked:
        shown = known("Mara Venn" if name == "Nobody Known" else name)
        return replace(shown, target=Target(name=name)) if name == "Nobody Known" else shown

    base.asked = asked
    weights = {name: p.detach().clone() for name, p in base.family.model.named_parameters()}
    params = Razor(steps=1, rounds=0)
    rows = runs.run(base, Job("line", "razor", ("Nobody Known", "Oskar Brill"), params=params))
    assert [(row["position"], row["measured_after"]) for row in rows] == [(1, 1), (2, 2)]
    assert not rows[0]["metrics"]
    assert rows[1]["metrics"]["M1"]
    assert all(torch.equal(weights[n], p) for n, p in base.family.model.named_parameters())


def test_only_what_times_nothing_is_taken_from_an_earlier_document(tmp_path: Path) -> None:
    gold, setting = Job("clip", "gold", ("Mara Venn",)), Job("tuning", "slug", ("Mara Venn",))
    edit = Job("clip", "slug", ("Mara Venn",), params=Slug())
    setting = replace(setting, variant="1", params=Slug(layers=3))
    rows = [
        {**head(replace(job, variant=""), "Mara Venn", 8), "from": "the document"}
        for job in (gold, setting, edit)
    ]
    document = tmp_path / "clip.json"
    document.write_text(json.dumps(rows))
    bench = Bench(tmp_path, 1, quiet, earlier=document)
    changed = replace(setting, params=Slug(layers=6))
    landed.take_over(document, bench._pool, [gold, setting, edit, changed])
    assert [bench._pool.file(job).exists() for job in (gold, setting, edit, changed)] == [
        True,
        True,
        False,
        False,
    ]
    (row,) = bench._run([setting])
    assert row["from"] == "the document"
    assert row["variant"] == "1"
    assert row["taken_over"]


@pytest.mark.parametrize("text", ["", "{", '{"a": 1}', "[1]", '[{"suite": "clip"}]'])
def test_a_file_that_is_no_document_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "clip.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"no list of rows|Expecting"):
        landed.read(file)


def test_the_landed_document_can_be_an_earlier_one() -> None:
    assert any(row["method"] == "gold" for row in landed.read(LANDED))
