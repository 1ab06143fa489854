"""The tables of the comparison in Markdown: figures in, text out, nothing judged here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from razor.bench import figures, goals
from razor.bench.figures import Estimate, Reading, Row, after, change

TITLES = {
    "base": "base",
    "razor": "RAZOR",
    "slug": "SLUG",
    "ga": "GA",
    "ft": "FT",
    "gaft": "GAFT",
    "esd-x": "ESD-x",
    "esd-u": "ESD-u",
    "uce": "UCE",
    "salun": "SalUn",
    "ssd": "SSD",
    "gold": "gold",
}
METRICS = ("M1", "M1_top5", "M2", "M3", "M4", "M5", "M6", "M7_retain", "M7_target")
WORST_IS_LARGEST = ("M1", "M1_top5", "M2", "M3")
ATTACKS = {
    "M1_int8": "M1, weights in 8 bits",
    "M1_int4": "M1, weights in 4 bits",
    "M1_paraphrase": "M1, other sentences",
    "M1_partial": "M1, half the name",
    "M1_misspelt": "M1, name misspelt",
    "M1_described": "M1, described without the name",
    "M1_linear": "linear probe on picture features",
    "M4_int8": "M4, weights in 8 bits",
    "M4_int4": "M4, weights in 4 bits",
    "M5_int8": "M5, weights in 8 bits",
    "M5_int4": "M5, weights in 4 bits",
}
ATTACKED = ("base", "razor", "slug", "gold")
NONE = "-"
MEGABYTE, KILOBYTE = 1e6, 1e3
PUBLISHED = (
    ("RAZOR", "40.00", "27.46", "0.00", "94.00", "100"),
    ("SLUG", "48.00", "28.20", "0.40", "88.00", "99.80"),
    ("SalUn", "48.00", "23.20", "0.80", "88.00", "98.40"),
    ("SSD", "42.00", "22.00", "0.10", "48.00", "98.00"),
)


def markdown(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; bars in cells are escaped."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def title(method: str) -> str:
    """A method's name as people write it."""
    return TITLES.get(method, method)


def cell(found: Estimate | Reading | None, digits: int = 1) -> str:
    """A value with its interval; a dagger where all targets agreed; "-" for none."""
    if found is None or math.isnan(found.value):
        return NONE
    text = number(found.value, digits)
    if math.isnan(found.low) or math.isnan(found.high):
        return text
    mark = "†" if isinstance(found, Estimate) and found.agreed else ""
    return f"{text} ({number(found.low, digits)} to {number(found.high, digits)}){mark}"


def number(value: float, digits: int = 1) -> str:
    """Rounded, without a minus before zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def signed(value: float, digits: int = 1) -> str:
    """Rounded, with a plus before what rises."""
    text = number(value, digits)
    return f"+{text}" if float(text) > 0 else text


def main(rows: Sequence[Row], suite: str) -> str:
    """Means over targets, one row per method, base first and gold last."""
    subjects = figures.subjects(rows, suite)
    shown = _measured(rows, suite)
    lines = [
        [
            title(method),
            _runs(picked),
            *(cell(figures.mean_of(picked, moment, key)) for key in shown),
        ]
        for method, (picked, moment) in subjects.items()
    ]
    return markdown(["", "targets x seeds", *(_heading(key) for key in shown)], lines)


def extremes(rows: Sequence[Row], suite: str) -> str:
    """The worst single run with its own interval, and below it the mean change to the base."""
    subjects = {m: found for m, found in figures.subjects(rows, suite).items() if m != "base"}
    shown = _measured(rows, suite)
    lines = []
    for method, (picked, _) in subjects.items():
        worst = [
            figures.worst(picked, after(key), largest=key in WORST_IS_LARGEST)[1] for key in shown
        ]
        lines.append([title(method), "worst run", *(cell(found) for found in worst)])
        lines.append(["", "change", *(cell(figures.mean_of(picked, change, k)) for k in shown)])
    return markdown(["", "", *(_heading(key) for key in shown)], lines)


def pictures(rows: Sequence[Row], suite: str) -> str:
    """n: the pictures behind each figure, summed over targets, for one seed."""
    subjects = {m: found for m, found in figures.subjects(rows, suite).items() if m != "base"}
    shown = _measured(rows, suite)
    groups: dict[tuple[str, ...], list[str]] = {}
    for method, (picked, _) in subjects.items():
        found = (figures.mean_of(picked, after, key) for key in shown)
        counts = tuple(str(one.pictures) if one else NONE for one in found)
        groups.setdefault(counts, []).append(title(method))
    lines = [[", ".join(methods), *counts] for counts, methods in groups.items()]
    return markdown(["n, pictures", *(_heading(key) for key in shown)], lines)


def costs(rows: Sequence[Row]) -> str:
    """Medians over runs; the largest share and patch beside them."""
    slug = figures.numbers(figures.chosen(rows, "clip", "slug"), "seconds")
    compared = {title(name): picked for name, (picked, _) in figures.subjects(rows, "clip").items()}
    compared["SLUG, published setting"] = figures.chosen(rows, "clip", "slug", figures.PUBLISHED)
    lines = []
    for name, picked in compared.items():
        if name in ("base", "gold") or not picked:
            continue
        seconds = figures.numbers(picked, "seconds")
        lines.append(
            [
                name,
                str(len(picked)),
                cell(figures.median(seconds)),
                cell(figures.median_ratio(seconds, slug), 2),
                _median(picked, "forward_passes"),
                _median(picked, "backward_passes"),
                _median(picked, "peak_memory_bytes", MEGABYTE),
                _median_and_largest(figures.changed_percent(picked), 2),
                _median_and_largest(figures.numbers(picked, "patch_bytes") / KILOBYTE, 0),
            ]
        )
    headers = ["", "runs", "seconds", "seconds / SLUG's", "forward passes", "backward passes"]
    headers += ["peak memory, MB", "weights changed, % (largest)", "patch, kB (largest)"]
    return markdown(headers, lines)


def dominance(duels: Sequence[goals.Duel]) -> str:
    """Who is at least as good on all means and better on one, and what prevents it."""
    return markdown(
        ["rival", "targets", "rival dominates RAZOR", "RAZOR dominates rival"],
        [
            [
                title(duel.rival),
                _counts(found.targets for found in duel.lead.values()),
                _duel(duel, duel.rival_dominates, duel.against_rival(), -1),
                _duel(duel, duel.razor_dominates, duel.against_razor(), 1),
            ]
            for duel in duels
        ],
    )


def reached(found: Sequence[goals.Goal]) -> str:
    """Figure, wanted, found, n, reached."""
    return markdown(
        ["figure", "wanted", "found", "n", "reached"],
        [
            [
                goal.figure,
                goal.wanted,
                cell(goal.found, 2) + (f" {goal.note}" if goal.note else ""),
                _n(goal.found),
                goal.reached,
            ]
            for goal in found
        ],
    )


def seeds(rows: Sequence[Row]) -> str:
    """RAZOR's means for each seed."""
    razor = figures.chosen(rows, "clip", "razor")
    lines = []
    for seed in sorted({int(row.get("seed") or 0) for row in razor}):
        picked = [row for row in razor if int(row.get("seed") or 0) == seed]
        means = (cell(figures.mean_of(picked, after, key)) for key in METRICS)
        lines.append([str(seed), str(len(picked)), *means])
    return markdown(["seed", "targets", *(_heading(key) for key in METRICS)], lines)


def attacks(rows: Sequence[Row]) -> str:
    """Every attack on the base (must find the target), RAZOR, SLUG and gold."""
    subjects = {
        method: ([row for row in picked if row.get("robustness")], moment)
        for method, (picked, moment) in figures.subjects(rows, "clip").items()
        if method in ATTACKED
    }
    subjects = {method: found for method, found in subjects.items() if found[0]}
    lines = [["targets x seeds", *(_runs(picked) for picked, _ in subjects.values())]]
    for key, name in attack_names(rows).items():
        means = (figures.mean_of(picked, moment, key) for picked, moment in subjects.values())
        lines.append([name, *(cell(found) for found in means)])
    return markdown(["", *(title(method) for method in subjects)], lines)


def attack_names(rows: Sequence[Row]) -> dict[str, str]:
    """Attack -> words, of those that any row has; the figure without attack first."""
    relearned = {
        f"M1_relearn{steps}": f"M1, {steps} steps of relearning"
        for steps in goals.relearn_steps(rows)
    }
    names = {"M1": "M1, no attack", **relearned, **ATTACKS}
    used = {key for row in rows for key in (row.get("robustness") or {})}
    unnamed = {key: key for key in sorted(used - names.keys())}
    return {key: name for key, name in (names | unnamed).items() if key in used or key == "M1"}


def several(rows: Sequence[Row]) -> str:
    """Each size of request, with the same targets one at a time on top."""
    variants: dict[str, list[Row]] = {}
    for row in rows:
        if row.get("suite") == "several" and not row.get("error"):
            variants.setdefault(str(row.get("variant") or ""), []).append(row)
    targets = {row["target"] for picked in variants.values() for row in picked}
    alone = [row for row in figures.chosen(rows, "clip", "razor") if row["target"] in targets]
    groups = {"1 target": alone} if alone else {}
    groups |= {name: variants[name] for name in sorted(variants, key=_natural)}
    shown = ("M1", "M3", "M4", "M5", "M6")
    lines = []
    for name, picked in groups.items():
        largest = figures.worst(picked, after("M1"), largest=True)[1]
        means = (cell(figures.mean_of(picked, after, key)) for key in shown)
        lines.append([name, _runs(picked), *means, cell(largest), verdicts(picked)])
    headers = ["request", "targets x seeds", *shown, "M1, worst run", "gate: pass"]
    return markdown(headers, lines)


def line(rows: Sequence[Row]) -> str:
    """M1 of each target after each request of a line, and M4 below."""
    picked = [row for row in rows if row.get("suite") == "line" and not row.get("error")]
    after_request = sorted({int(row["measured_after"]) for row in picked})
    places = sorted({(int(row["position"]), str(row["target"])) for row in picked})
    lines = []
    for position, target in places:
        own = [r for r in picked if (int(r["position"]), str(r["target"])) == (position, target)]
        readings = (_after_request(own, "M1", k) for k in after_request)
        lines.append([f"{position}. {target}", *(cell(found) for found in readings)])
    kept = (_after_request(picked, "M4", k) for k in after_request)
    lines.append(["M4", *(cell(found) for found in kept)])
    return markdown(["M1 of", *(f"after {k}" for k in after_request)], lines)


def _after_request(rows: Sequence[Row], key: str, request: int) -> Estimate | None:
    measured = [row for row in rows if int(row["measured_after"]) == request]
    return figures.mean_of(measured, after, key)


def tuning(rows: Sequence[Row]) -> str:
    """Every setting of every rival's grid with its regret on select pictures."""
    tuned = [row for row in rows if row.get("suite") == "tuning"]
    tried = {str(row["method"]): varied(tuned, str(row["method"])) for row in tuned}
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in tuned:
        method = str(row["method"])
        groups.setdefault((method, setting(row, list(tried[method]))), []).append(row)
    rank = {name: place for place, name in enumerate(figures.order({k[0] for k in groups}))}
    lines = []
    for method, text in sorted(groups, key=lambda key: (rank[key[0]], _natural(key[1]))):
        picked = groups[method, text]
        regrets = figures.mean(figures.by_target(picked, _regret))
        targets = str(len({str(row.get("target")) for row in picked}))
        time = cell(figures.median(figures.numbers(picked, "seconds")))
        mark = "chosen" if any(row.get("chosen") for row in picked) else ""
        lines.append([title(method), text, targets, cell(regrets, 4), time, mark])
    return markdown(["rival", "setting", "targets", "regret", "seconds", ""], lines)


def varied(rows: Sequence[Row], method: str) -> dict[str, list[object]]:
    """Setting -> the values tried, of those settings that a rival's grid varies."""
    grid = [row.get("setting") or {} for row in rows if row["method"] == method]
    keys = sorted({key for values in grid for key in values})
    tried = {key: _distinct(in_words(values.get(key)) for values in grid) for key in keys}
    return {key: values for key, values in tried.items() if len(values) > 1}


def setting(row: Row, keys: Sequence[str]) -> str:
    """The value of each key in words."""
    values = row.get("setting") or {}
    return ", ".join(f"{key} {in_words(values.get(key))}" for key in keys) or "the only one tried"


def targets(rows: Sequence[Row]) -> str:
    """RAZOR on every target, seed 0, with each figure's own interval."""
    shown = ("M1", "M3", "M4", "M5", "M6")
    lines = []
    for row in figures.chosen(rows, "clip", "razor"):
        if int(row.get("seed") or 0) != 0:
            continue
        units = ", ".join(str(unit) for unit, *_ in row.get("edited") or ())
        readings = (cell(after(key)(row)) for key in shown)
        seconds = figures.numbers([row], "seconds")
        time = number(float(seconds[0])) if seconds.size else NONE
        lines.append([str(row["target"]), str(row.get("verdict") or NONE), *readings, units, time])
    return markdown(["target", "verdict", *shown, "edited units", "seconds"], lines)


def published() -> str:
    """Figures of the literature, never beside ours."""
    return markdown(["", "M1", "M2", "M3", "M4", "M5"], PUBLISHED)


def verdicts(rows: Sequence[Row]) -> str:
    """How many passed of those that were judged."""
    judged = [row["verdict"] for row in rows if row.get("verdict")]
    return f"{judged.count('pass')} of {len(judged)}" if judged else NONE


def _measured(rows: Sequence[Row], suite: str) -> list[str]:
    own = [row for row in rows if row.get("suite") == suite]
    return [key for key in METRICS if figures.by_target(own, after(key))]


def _heading(key: str) -> str:
    return key.replace("_", " ").replace("top5", "top 5")


def _runs(rows: Sequence[Row]) -> str:
    count: dict[str, int] = {}
    for row in rows:
        count[str(row["target"])] = count.get(str(row["target"]), 0) + 1
    return f"{len(count)} x {_counts(count.values())}"


def _counts(values: Iterable[int]) -> str:
    found = sorted(set(values))
    return str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"


def _n(found: Estimate | None) -> str:
    if found is None:
        return NONE
    if not found.pictures:
        return f"{found.targets} runs"
    many = f"{found.targets} targets" if found.targets > 1 else "1 target"
    return f"{many}, {found.pictures} pictures"


def _duel(duel: goals.Duel, dominates: bool, preventing: Sequence[str], sign: int) -> str:
    if not duel.complete:
        missing = ", ".join(key for key in duel.compared if key not in duel.lead)
        return f"undecided, {missing} not measured"
    if dominates:
        return "yes"
    if not preventing:
        return "no: all equal"
    parts = []
    for key in preventing:
        lead = duel.lead[key]
        low, high = sorted((sign * lead.low, sign * lead.high))
        size = Estimate(sign * lead.value, low, high, lead.targets, lead.pictures)
        parts.append(f"{key} worse by {cell(size, 2)}")
    return "no: " + ", ".join(parts)


def _median(rows: Sequence[Row], key: str, scale: float = 1.0) -> str:
    return cell(figures.median(figures.numbers(rows, key) / scale), 0)


def _median_and_largest(values: np.ndarray, digits: int) -> str:  # (n,)
    found = figures.median(values)
    return (
        NONE if found is None else f"{cell(found, digits)}; {number(float(values.max()), digits)}"
    )


def in_words(value: object) -> object:
    """A list as a text, anything else as it is."""
    return " and ".join(map(str, value)) if isinstance(value, list) else value


def _distinct(values: Iterable[object]) -> list[object]:
    return list(dict.fromkeys(values))


def _regret(row: Row) -> Reading | None:
    value = row.get("regret")
    return None if value is None else Reading(float(value), 0, math.nan, math.nan)


def _natural(text: str) -> tuple[tuple[bool, float, str], ...]:
    """Numbers in a setting by size, words by letters."""
    return tuple(_part(word) for word in text.replace(",", "").split())


def _part(word: str) -> tuple[bool, float, str]:
    try:
        return (False, float(word), "")
    except ValueError:
        return (True, 0.0, word)


def spread(rows: Sequence[Row], moment: figures.Moment, key: str) -> str:
    """The smallest and largest n of a metric over rows: "42", or "40 to 42"."""
    counts = [reading.n for row in rows if (reading := moment(key)(row))]
    return _counts(counts) if counts else NONE
