"""The comparison's figures against plain numpy, and what it must never claim."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from razor import statistics
from razor.bench import ablations, document, figures, goals, plan, plots, tables

Row = dict[str, Any]
METHODS = ("base", "razor", *plan.RIVALS, "gold")
KEYS = ("M1", "M1_top5", "M2", "M3", "M4", "M5", "M6", "M7_retain", "M7_target")
BASE = dict(zip(KEYS, (98.0, 100.0, 50.0, 20.0, 98.0, 100.0, 99.0, 99.5, 100.0), strict=True))
GOOD = dict(zip(KEYS, (1.0, 5.0, -20.0, 15.0, 97.8, 98.5, 97.5, 99.2, 99.8), strict=True))
BAD = dict(zip(KEYS, (50.0, 80.0, 30.0, 60.0, 80.0, 70.0, 60.0, 80.0, 70.0), strict=True))
ATTACKS = (
    *(f"{metric}_int{bits}" for bits in (8, 4) for metric in ("M1", "M4", "M5")),
    *(f"M1_relearn{steps}" for steps in (2, 5, 10)),
    *(f"M1_{kind}" for kind in ("paraphrase", "partial", "misspelt", "described", "linear")),
)


def triple(before: float, after: float, n: int = 42) -> dict[str, list[float]]:
    return {
        "before": [before, n, before - 3, before + 3],
        "after": [after, n, after - 3, after + 3],
        "change": [after - before, n, after - before - 4, after - before + 4],
    }


def made(
    method: str,
    target: str,
    values: dict[str, float],
    *,
    suite: str = "clip",
    seed: int = 0,
    variant: str = "",
    attacked: bool = True,
    **more: Any,
) -> Row:
    sizes = {"M4": 196, "M5": 196, "M6": 35, "M7_retain": 600}
    attacks = {}
    for name in ATTACKS if attacked else ():
        own = name.split("_")[0]
        attacks[name] = triple(BASE[own], values[own] + 0.2 if own == "M1" else values[own])
    return {
        "suite": suite,
        "method": method,
        "variant": variant,
        "target": target,
        "seed": seed,
        "params": {},
        "metrics": {key: triple(BASE[key], values[key], sizes.get(key, 42)) for key in KEYS},
        "robustness": attacks,
        "scores": [],
        "edited": [["image.3.up", 0.1]],
        "weights_changed": 20_000,
        "weights_total": 1_000_000,
        "patch_bytes": 81_000,
        "seconds": 3.0 + 0.1 * seed,
        "phase_seconds": {"edit": 3.0},
        "forward_passes": 100,
        "backward_passes": 40,
        "peak_memory_bytes": 900_000_000,
        "verdict": "pass",
        **more,
    }


def shaken(values: dict[str, float], number: int) -> dict[str, float]:
    """The values moved a little, each target and seed by its own amount."""
    rng = random.Random(number)
    return {key: value + rng.uniform(-0.9, 0.9) for key, value in values.items()}


def unit_scores(seed: int) -> list[list[Any]]:
    rng = random.Random(seed)
    units = [
        f"{tower}.{layer}.{name}"
        for tower, layers, heads in (("image", 6, 4), ("text", 4, 2))
        for layer in range(layers)
        for name in (*plots.COLUMNS, *(f"head{head}" for head in range(heads)))
    ]
    return [[unit, rng.random(), 0 if rng.random() < 0.05 else None] for unit in units]


def similarity(size: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    base = 0.15 * rng.standard_normal((size, size)) + 0.5 * np.eye(size)
    edited = base.copy()
    edited[0] -= 0.4
    names = [f"Person Number{i}" for i in range(size)]
    return {"classes": names, "before": base.tolist(), "after": edited.tolist()}


def comparison(targets: int = 5, seeds: int = 2) -> list[Row]:
    """Every suite, with RAZOR better than its rivals on everything but M4 against SLUG."""
    names = [f"Person {chr(65 + number)}" for number in range(targets)]
    rows = []
    count = itertools.count()
    for name in names:
        for seed in range(seeds):
            scored: dict[str, Any] = {"scores": unit_scores(next(count))} if seed == 0 else {}
            rows.append(made("razor", name, shaken(GOOD, next(count)), seed=seed, **scored))
            slug = {**GOOD, "M1": 30.0, "M4": 99.5, "M5": 96.0, "M6": 95.0}
            rows.append(made("slug", name, shaken(slug, next(count)), seed=seed, seconds=2.0))
        for place, rival in enumerate(("ga", "ft", "gaft", "salun", "ssd")):
            worse = {key: BAD[key] + 3 * place for key in KEYS}
            rows.append(made(rival, name, shaken(worse, next(count)), attacked=False))
        gold = {**GOOD, "M1": 0.0, "M4": 98.0, "M5": 97.0}
        rows.append(made("gold", name, gold, verdict=None, weights_total=0, seconds=0.0))
        for variant in ("", "no retain", "heads off"):
            values = {**GOOD, "M4": 90.0} if variant == "no retain" else GOOD
            values = shaken(values, next(count))
            rows.append(made("razor", name, values, suite="ablation", variant=variant))
        for variant in ("2 targets", "4 targets"):
            values = shaken(GOOD, next(count))
            rows.append(made("razor", name, values, suite="several", variant=variant))
        for method in ("razor", "slug", "gold"):
            values = shaken(GOOD, next(count))
            rows.append(made(method, f"s{name[-1]}", values, suite="faces"))
        for number, rate in enumerate((1e-5, 1e-4, 1e-3)):
            rows.append(
                {
                    "suite": "tuning",
                    "method": "ga",
                    "variant": str(number),
                    "target": name,
                    "setting": {"method": "ga", "learning_rate": rate, "steps": 30},
                    "regret": 0.1 + rate,
                    "chosen": number == 0,
                    "seconds": 4.0,
                }
            )
    for position in range(1, min(5, targets) + 1):
        for request in range(position, min(5, targets) + 1):
            own: dict[str, Any] = {"position": position, "measured_after": request}
            rows.append(made("razor", names[position - 1], GOOD, suite="line", **own))
    rows[0]["similarity"] = similarity(30)
    return rows


def written(rows: list[Row], out: Path) -> str:
    document.write(rows, out, "razor bench clip --quick")
    return (out / "clip.md").read_text(encoding="utf-8")


def plain(rows: list[Row]) -> str:
    """The document without its pictures, which take seconds to draw."""
    return document.text(figures.tidy(rows), "razor bench clip --quick")


def verdicts(rows: list[Row]) -> dict[str, str]:
    return {goal.figure: goal.reached for goal in goals.goals(figures.tidy(rows))}


def picked(rows: list[Row], suite: str, method: str, variant: str = "") -> list[Row]:
    keys = {"suite": suite, "method": method, "variant": variant}
    return [row for row in rows if all(row.get(key) == value for key, value in keys.items())]


def means_by_hand(rows: list[Row], key: str) -> np.ndarray:
    """One mean over seeds per target, targets by name."""
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row["target"], []).append(row["metrics"][key]["after"][0])
    return np.array([np.mean(found[target]) for target in sorted(found)])


@pytest.mark.parametrize("key", KEYS)
def test_means_and_intervals_are_those_of_numpy(key: str) -> None:
    rows = comparison()
    own = picked(rows, "clip", "razor")
    expected = means_by_hand(own, key)
    found = figures.mean_of(own, figures.after, key)
    assert found is not None
    assert found.value == pytest.approx(expected.mean())
    rng = np.random.default_rng(figures.SEED)
    drawn = expected[rng.integers(0, len(expected), (figures.RESAMPLES, len(expected)))]
    ends = np.quantile(drawn.mean(axis=1), (0.025, 0.975))
    assert (found.low, found.high) == pytest.approx(tuple(ends))
    assert found.targets == 5
    assert found.pictures == 5 * own[0]["metrics"][key]["after"][1]


def test_seeds_of_one_target_weigh_as_one_target() -> None:
    rows = [made("razor", "A", {**GOOD, "M1": 0.0}, seed=seed) for seed in range(9)]
    rows.append(made("razor", "B", {**GOOD, "M1": 10.0}))
    found = figures.mean_of(rows, figures.after, "M1")
    assert found is not None
    assert found.value == pytest.approx(5.0)


def test_agreeing_targets_keep_an_interval() -> None:
    """A bootstrap of equal values has no width; nine pictures are no certainty."""
    rows = [made("razor", name, {**GOOD, "M1": 0.0}) for name in "ABC"]
    found = figures.mean_of(rows, figures.after, "M1")
    assert found is not None
    assert found.agreed
    assert found.high == pytest.approx(100 * statistics.wilson(0, 3 * 42)[1])
    change = figures.mean_of(rows, figures.change, "M4")
    assert change is not None
    assert (change.low, change.high) == pytest.approx((-4.2, 3.8))


def test_base_is_what_the_runs_began_with() -> None:
    subjects = figures.subjects(figures.tidy(comparison()), "clip")
    assert list(subjects) == list(METHODS)
    base = figures.mean_of(*subjects["base"], "M4")
    assert base is not None
    assert base.value == pytest.approx(BASE["M4"])
    assert {row["method"] for row in subjects["base"][0]} == {"razor"}


def test_nothing_measured_is_not_zero() -> None:
    row = made("razor", "A", GOOD)
    row["metrics"]["M1"] = triple(0.0, 0.0, n=0)
    assert figures.mean_of([row], figures.after, "M1") is None
    assert verdicts([row])["M1, mean"] == "not measured"


def test_dominance_follows_the_four_means() -> None:
    duels = {duel.rival: duel for duel in goals.duels(figures.tidy(comparison()))}
    assert set(duels) == set(plan.RIVALS)
    slug = duels["slug"]
    assert not slug.rival_dominates
    assert not slug.razor_dominates
    assert slug.against_razor() == ["M4"]
    assert slug.against_rival() == ["M1", "M5", "M6"]
    assert duels["ga"].razor_dominates
    assert "yes" in tables.dominance(goals.duels(figures.tidy(comparison())))


def test_dominance_leads_are_paired_differences() -> None:
    rows = comparison()
    slug, razor = picked(rows, "clip", "slug"), picked(rows, "clip", "razor")
    found = next(duel for duel in goals.duels(rows) if duel.rival == "slug").lead
    for key, sign in (("M1", -1), ("M4", 1), ("M5", 1), ("M6", 1)):
        expected = sign * (means_by_hand(slug, key) - means_by_hand(razor, key))
        assert found[key].value == pytest.approx(expected.mean())


def test_dominance_looks_at_common_targets_only() -> None:
    """A rival that skipped the hard target must not look better for it."""
    rows = [
        made("razor", "easy", GOOD),
        made("razor", "hard", {**GOOD, "M1": 40.0}),
        made("ga", "easy", {**GOOD, "M1": 2.0}),
    ]
    (duel,) = goals.duels(rows)
    assert duel.lead["M1"].value == pytest.approx(-1.0)
    assert duel.razor_dominates


def test_a_better_rival_is_said_to_dominate() -> None:
    better = {**GOOD, "M1": 0.0, "M4": 98.5, "M5": 99.0, "M6": 98.0}
    rows = [made("razor", "A", GOOD), made("ga", "A", better)]
    assert "RAZOR is dominated by GA." in plain(rows)


def test_equals_dominate_nobody() -> None:
    (duel,) = goals.duels([made("razor", "A", GOOD), made("ga", "A", GOOD)])
    assert not duel.rival_dominates
    assert not duel.razor_dominates


def test_good_rows_reach_every_figure() -> None:
    """The positive control of the tests below."""
    found = verdicts([row for row in comparison() if row["suite"] == "clip"])
    assert {figure for figure, reached in found.items() if not reached.startswith("yes")} == set()
    assert len(found) == 18


HARM: dict[str, Callable[[Row], object]] = {
    "M1, mean": lambda row: row["metrics"].update(M1=triple(98, 50)),
    "M1, worst run": lambda row: row["metrics"].update(M1=triple(98, 10.1)),
    "M4, mean change": lambda row: row["metrics"].update(M4=triple(98, 90)),
    "M4, worst change of a run": lambda row: row["metrics"].update(M4=triple(98, 94.9)),
    "M5, mean": lambda row: row["metrics"].update(M5=triple(100, 80)),
    "M6, mean change": lambda row: row["metrics"].update(M6=triple(99, 50)),
    "M7 retain, mean change": lambda row: row["metrics"].update(M7_retain=triple(99, 80)),
    "M7 target, mean change": lambda row: row["metrics"].update(M7_target=triple(99, 80)),
    "M3, mean RAZOR minus mean gold": lambda row: row["metrics"].update(M3=triple(20, 90)),
    "int8: M1 rises by": lambda row: row["robustness"].update(M1_int8=triple(98, 40)),
    "int8: M5 falls by": lambda row: row["robustness"].update(M5_int8=triple(99, 60)),
    "int4: M1 rises by": lambda row: row["robustness"].update(M1_int4=triple(98, 40)),
    "int4: M5 falls by": lambda row: row["robustness"].update(M5_int4=triple(99, 60)),
    "M1 after 2 steps of relearning, RAZOR minus gold": lambda row: row["robustness"].update(
        M1_relearn2=triple(98, 90)
    ),
    "M1 after 5 steps of relearning, RAZOR minus gold": lambda row: row["robustness"].update(
        M1_relearn5=triple(98, 90)
    ),
    "M1 after 10 steps of relearning, RAZOR minus gold": lambda row: row["robustness"].update(
        M1_relearn10=triple(98, 90)
    ),
    "weights changed, largest share of a run": lambda row: row.update(weights_changed=90_000),
    "seconds, median RAZOR / median SLUG": lambda row: row.update(seconds=4.1),
}
WORST = ("M1, worst run", "M4, worst change of a run", "weights changed, largest share of a run")


@pytest.mark.parametrize("figure", HARM)
def test_each_figure_can_be_missed(figure: str) -> None:
    """Harm in every run misses a mean; in one run of many it misses a worst case."""
    rows = [row for row in comparison() if row["suite"] == "clip"]
    own = picked(rows, "clip", "razor")
    for row in own[-1:] if figure in WORST else own:
        HARM[figure](row)
    assert verdicts(rows)[figure] == "no"


def test_bad_rows_reach_nothing_but_cost() -> None:
    """The negative control: M1 at 50, and everything else spoilt."""
    rows = [made("razor", name, BAD, seconds=9.0, weights_changed=500_000) for name in "ABC"]
    for row in rows:
        for attack in row["robustness"]:
            row["robustness"][attack] = triple(98, 90 if attack.startswith("M1") else 10)
    rows += [made("gold", name, GOOD) for name in "ABC"]
    rows += [made("slug", name, GOOD, seconds=1.0) for name in "ABC"]
    assert set(verdicts(rows).values()) == {"no"}


def test_without_razor_nothing_is_reached() -> None:
    rows = [made(method, "A", GOOD) for method in ("slug", "gold")]
    assert set(verdicts(rows).values()) == {"not measured"}
    assert set(verdicts([]).values()) == {"not measured"}


def test_a_failed_run_reaches_nothing() -> None:
    """Leaving the run that diverged out of the means must not make them good."""
    rows = [row for row in comparison() if row["suite"] == "clip"]
    rows.append({"suite": "clip", "method": "razor", "variant": "", "target": "Z", "error": "up"})
    assert set(verdicts(rows).values()) == {"no, failed runs: 1"}
    assert "diverged and are in no mean: clip RAZOR 1." in plain(rows)


def test_weak_where_the_interval_misses() -> None:
    rows = [made("razor", "A", {**GOOD, "M1": 1.9})]
    assert verdicts(rows)["M1, mean"] == "yes, weak"


def test_not_a_number_reaches_nothing() -> None:
    rows = [made("razor", "A", {**GOOD, "M1": float("nan")})]
    assert verdicts(rows)["M1, mean"] == "not measured"


def test_same_rows_same_bytes_in_any_order(tmp_path: Path) -> None:
    rows = comparison()
    written(rows, tmp_path / "a")
    random.Random(3).shuffle(rows)
    written(rows, tmp_path / "b")
    for name in ("clip.md", "clip.json", *drawings()):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def drawings() -> tuple[str, str, str]:
    return plots.PARETO, plots.SCORES, plots.SIMILARITY


@pytest.mark.parametrize("targets", [1, 4, 24])
def test_pictures_are_drawn_for_few_and_many_targets(targets: int, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    text = written(comparison(targets), tmp_path)
    for name in drawings():
        assert f"]({name})" in text
        with image.open(tmp_path / name) as picture:
            assert picture.width == 900
            assert len(picture.convert("L").getcolors()) > 10  # not an empty canvas
        assert (tmp_path / name).stat().st_size < 150_000


def test_without_matplotlib_the_document_has_no_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    assert "![" not in written(comparison(2), tmp_path)
    assert not list(tmp_path.glob("*.png"))


SECTIONS = {
    "Ablations": "ablation",
    "Several targets in one request": "several",
    "Requests one after another": "line",
    "Real faces": "faces",
    "How the rivals were tuned": "tuning",
    "Means over targets": "clip",
}


def test_sections_without_rows_are_left_out() -> None:
    rows = comparison()
    whole = plain(rows)
    for heading, suite in SECTIONS.items():
        assert f"## {heading}\n" in whole
        rest = [row for row in rows if row["suite"] != suite]
        assert f"## {heading}\n" not in document.text(figures.tidy(rest), "command")


def test_no_rows_at_all_make_a_document(tmp_path: Path) -> None:
    text = written([], tmp_path)
    assert "## Published figures" in text
    assert "yes" not in text
    assert json.loads((tmp_path / "clip.json").read_text()) == []


def test_people_that_the_base_does_not_know_are_counted_and_in_no_row() -> None:
    rows = [made(method, "A", GOOD, suite="faces") for method in ("razor", "slug", "gold")]
    rows += [made("gold", "B", BAD, suite="faces")]
    rows += [made(method, "B", GOOD, suite="faces", metrics={}) for method in ("razor", "slug")]
    text = plain(rows)
    assert "Of 2 people the base does not know 1 better than chance" in text
    (gold,) = [line for line in text.splitlines() if line.startswith("| gold | 1 x 1")]
    assert "50.0" not in gold


def test_a_line_tells_whom_earlier_requests_left_unknown() -> None:
    first = made("razor", "A", GOOD, suite="line", position=1, measured_after=1)
    second = made("razor", "B", GOOD, suite="line", position=2, measured_after=2, metrics={})
    assert "nothing was edited: B (request 2)" in plain([first, second])
    assert "nothing was edited" not in plain([first])


def test_attacks_are_left_out_where_none_was_tried() -> None:
    rows = [made("razor", "A", GOOD, attacked=False)]
    assert "## Robustness" not in document.text(rows, "command")


def test_blunt_attacks_are_named() -> None:
    rows = [made("razor", name, GOOD) for name in "AB"]
    assert "in at least 50 %" in document.text(rows, "command")
    for row in rows:
        row["robustness"]["M1_described"] = triple(12.0, 0.0)
    assert "described without the name (12.0 %)" in document.text(rows, "command")


def test_json_holds_the_rows_sorted_and_rounded(tmp_path: Path) -> None:
    rows = [made("slug", "B", GOOD), made("razor", "A", {**GOOD, "M1": 1 / 3})]
    rows[0]["regret"] = float("inf")
    rows[0]["scores"] = [["image.0.q", 1.23456e-6, None]]
    written(rows, tmp_path)
    found = json.loads((tmp_path / "clip.json").read_text(encoding="utf-8"))
    assert [row["method"] for row in found] == ["razor", "slug"]
    assert found[0]["metrics"]["M1"]["after"][0] == 0.3333
    assert found[1]["regret"] is None
    assert found[1]["scores"] == [["image.0.q", 1.235e-6, None]]  # small is not nothing
    assert found == figures.tidy(found)


def test_front_leaves_out_who_is_beaten_in_both() -> None:
    front = plots._front([(90, 95), (99, 90), (80, 94), (98, 89)])
    assert front[1:-1] == [(90, 95), (90, 90), (99, 90)]
    assert plots._front([]) == []


def test_every_method_lies_inside_the_picture() -> None:
    points = plots._points(figures.tidy(comparison()))
    axes = plots._figure(4.0).subplots()
    plots._scatter(axes, points)
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert len(points) == len(METHODS)
    assert all(left < x.value < right and bottom < y.value < top for x, y in points.values())


def test_ablations_are_paired_with_the_default() -> None:
    rows = comparison()
    default = picked(rows, "ablation", "razor")
    variant = picked(rows, "ablation", "razor", "no retain")
    fall = (means_by_hand(default, "M4") - means_by_hand(variant, "M4")).mean()
    (remark,) = (text for text in ablations.remarks(rows) if "retain term" in text)
    assert f"M4 falls by {fall:.1f} points" in remark
    assert "n = 5 targets" in remark


def test_ablations_without_their_own_default_use_the_main_rows() -> None:
    rows = [made("razor", "A", GOOD), made("razor", "A", BAD, suite="ablation", variant="x")]
    assert ablations.remarks(rows) == [
        'With "x", M1 rises by 49.0 points, M4 falls by 17.8 points, M6 falls by 37.5 points; '
        "n = 1 targets."
    ]


@pytest.mark.parametrize(
    ("moved", "words"),
    [(-7.0, "yes"), (5.0, "no"), (0.0, "not clearly")],
    ids=["as in the paper", "the other way", "standing still"],
)
def test_directions_are_compared_with_the_paper(moved: float, words: str) -> None:
    """The paper's M4 falls without the retain term, and its M1 hardly moves."""
    rows = []
    for number, name in enumerate("ABCDE"):
        own = shaken(GOOD, number)
        rows.append(made("razor", name, own, suite="ablation"))
        off = {**own, "M4": own["M4"] + moved * (1 + number / 10)}
        rows.append(made("razor", name, off, suite="ablation", variant="no retain"))
    lines = [line for line in ablations.against_paper(rows).splitlines() if "no retain" in line]
    assert [line.split("|")[-2].strip() for line in lines] == [
        "yes, neither moves",
        words,
        "not clearly",
    ]


def test_parts_that_the_paper_left_on_are_not_compared() -> None:
    rows = [made("razor", "A", GOOD), made("razor", "A", BAD, suite="ablation", variant="x")]
    assert ablations.against_paper(rows) == ""


def test_an_edge_of_a_grid_is_named() -> None:
    assert "GA: learning_rate 1e-05 is at the edge of its grid." in plain(comparison())


def test_published_figures_stay_apart() -> None:
    text = document.text(figures.tidy(comparison()), "command")
    assert "not comparable with ours" in text
    assert text.count("27.46") == 1


def test_tables_have_as_many_cells_as_headers() -> None:
    text = document.text(figures.tidy(comparison()), "command")
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.replace("\\|", "").count("|") for line in lines}) <= 1
