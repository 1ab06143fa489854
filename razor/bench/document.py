"""The comparison as a document: every sentence with a figure in it is computed from the rows.

``write`` is the way in. A row is one run; ``razor.bench.figures`` says how its measurements look.
Sections without rows are left out.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from razor.bench import ablations, figures, goals, plots, tables
from razor.bench.figures import Row, after

PACKAGES = ("razor-unlearning", "torch", "open_clip_torch", "transformers", "numpy")
FEW_TARGETS = 10
FIRES = 50.0  # percent of the un-erased that an attack must find to say anything
FACES_CREDIT = (
    "Pictures: Olivetti Research Laboratory, Cambridge, UK; F. Samaria and A. Harter, "
    '"Parameterisation of a stochastic model for human face identification", 2nd IEEE Workshop on '
    "Applications of Computer Vision, 1994. They are for measuring only and not in this "
    "repository; labels are made up."
)


def write(rows: Sequence[Mapping[str, Any]], out: Path, command: str) -> None:
    """Writes ``clip.json``, ``clip.md`` and the pictures into ``out``; the same rows, same bytes.

    The document is computed from the rows as they stand in the JSON, so it can be checked against
    them. Without matplotlib (extra ``bench``) the pictures are left out.
    """
    kept = figures.tidy(rows)
    out.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(row, allow_nan=False, separators=(",", ":")) for row in kept)
    (out / "clip.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    drawn = plots.draw(kept, out)
    (out / "clip.md").write_text(text(kept, command, drawn), encoding="utf-8")


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """The means over targets as a table, for a terminal."""
    return tables.main(figures.tidy(rows), "clip")


def text(rows: Sequence[Row], command: str, drawn: Sequence[str] = ()) -> str:
    """The document in Markdown; ``drawn`` are the pictures that lie beside it."""
    sections = [
        _what_was_run(rows, command),
        *_comparison(rows, drawn),
        *_attacks(rows),
        *_parts(rows, drawn),
        *_requests(rows),
        *_faces(rows),
        _published(),
        *_tuning(rows),
        *_targets(rows, drawn),
    ]
    return "# CLIP: every method on the same targets\n\n" + "\n\n".join(sections) + "\n"


def section(heading: str, *parts: str) -> str:
    """A heading and what stands under it, without the parts that are empty."""
    return "\n\n".join([f"## {heading}", *(part for part in parts if part)])


def _what_was_run(rows: Sequence[Row], command: str) -> str:
    main = [row for row in rows if row.get("suite") == "clip"]
    targets = {str(row["target"]) for row in main}
    lines = [f"- Targets: {len(targets)}."]
    samples = sorted({int(row["samples"]) for row in rows if row.get("samples")})
    if samples:
        lines.append(f"- Samples per request: {' or '.join(map(str, samples))}.")
    if main:
        razor = figures.chosen(rows, "clip", "razor") or main
        n = ", ".join(
            f"{key} {tables.spread(razor, after, key)}"
            for key in ("M1", "M3", "M4", "M6")
            if tables.spread(razor, after, key) != tables.NONE
        )
        lines += [f"- Pictures per target and seed: {n}.", f"- Seeds: {_seeds(main)}."]
    lines += [
        f"- Versions: {versions(PACKAGES)}.",
        "- No run used a test picture for fitting or for choosing a step, a unit or a setting: "
        f"fit, select and test are disjoint by picture digest. {_settings(rows)}",
        "- (a to b) is a 95 % interval. For means over targets: bootstrap over targets "
        f"({figures.RESAMPLES} resamples, seed {figures.SEED}), the seeds of a target averaged "
        "first. † all targets gave the same figure: Wilson's interval over all pictures instead, "
        "for changes the widest of a run. "
        "For medians: bootstrap over runs. A single run keeps its own interval over pictures.",
    ]
    lines += [*_failures(rows), *taken_over(rows)]
    if 1 < len(targets) < FEW_TARGETS:
        lines.append(
            f"- A bootstrap over only {len(targets)} targets is too narrow: a look, no evidence."
        )
    return section("What was run", f"`{command}`", "\n".join(lines))


def _settings(rows: Sequence[Row]) -> str:
    tuned = {str(row["target"]) for row in rows if row.get("suite") == "tuning"}
    own = "RAZOR ran with its defaults; docs/experiments.md tells how they came about."
    if not tuned:
        return f"Rivals ran with their defaults. {own}"
    return f"Rivals were tuned on select pictures of {len(tuned)} targets. {own}"


def _failures(rows: Sequence[Row]) -> list[str]:
    """The runs that no mean holds."""
    counts: dict[str, int] = {}
    for row in figures.failed(rows):
        words = [str(row.get("suite")), tables.title(str(row.get("method")))]
        name = " ".join([*words, str(row.get("variant") or "")]).strip()
        counts[name] = counts.get(name, 0) + 1
    if not counts:
        return []
    found = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    return [f"- Runs that diverged and are in no mean: {found}."]


def taken_over(rows: Sequence[Row]) -> list[str]:
    """How many rows an earlier document gave."""
    taken = [row for row in rows if row.get("taken_over")]
    if not taken:
        return []
    gold = sum(row.get("method") == "gold" for row in taken)
    return [
        f"- Taken over from an earlier document, not run again: {gold} gold rows and "
        f"{len(taken) - gold} of tuning. No cost is among them."
    ]


def _seeds(rows: Sequence[Row]) -> str:
    groups: dict[str, list[str]] = {}
    for method in figures.order({str(row.get("method")) for row in rows}):
        own = {int(row.get("seed") or 0) for row in rows if row.get("method") == method}
        groups.setdefault(", ".join(map(str, sorted(own))), []).append(tables.title(method))
    return "; ".join(f"{seeds} ({', '.join(methods)})" for seeds, methods in groups.items())


def versions(packages: Sequence[str]) -> str:
    """Of Python and of what is installed of the packages."""
    found = [f"Python {platform.python_version()}"]
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _comparison(rows: Sequence[Row], drawn: Sequence[str]) -> Iterator[str]:
    if not any(row.get("suite") == "clip" for row in rows):
        return
    yield section(
        "Means over targets",
        "Lower is better for M1 and M2, zero for M3, higher for M4 to M7 (docs/method.md). Gold "
        "was trained without the target; base is the model before any edit. A retained picture "
        "counts once for each target in n.",
        _uneven(rows),
        tables.main(rows, "clip"),
        tables.pictures(rows, "clip"),
        _as_published(rows),
        _picture(drawn, plots.PARETO, "forgetting against keeping, one point per method"),
    )
    yield section(
        "Worst run, and change to the base",
        "Worst over every target and seed, with that run's own interval; below it the mean change.",
        tables.extremes(rows, "clip"),
    )
    razor = figures.chosen(rows, "clip", "razor")
    if len({row.get("seed") for row in razor}) > 1:
        yield section("RAZOR by seed", tables.seeds(rows))
    yield section(
        "Cost",
        "Medians over runs, one target a run, without the attacks below. Gold is left out: it is "
        "a training of its own.",
        tables.costs(rows),
    )
    if duels := goals.duels(rows):
        yield section(
            "Dominance",
            "A dominates B: at least as good on the means of M1, M4, M5 and M6, better on one; on "
            "the targets that both were run on. Differences are paired by target.",
            tables.dominance(duels),
            verdict_of(duels),
        )
    found = goals.goals(rows)
    reached = sum(goal.reached.startswith("yes") for goal in found)
    weak = sum(goal.reached == "yes, weak" for goal in found)
    yield section(
        "Figures to reach",
        f"{reached} of {len(found)} reached, {weak} of them weakly: the point estimate does, the "
        "worse end of the interval does not.",
        tables.reached(found),
    )


def _as_published(rows: Sequence[Row]) -> str:
    """What SLUG's published setting gives, where the table shows a better one."""
    picked = figures.chosen(rows, "clip", "slug", figures.PUBLISHED)
    if not picked:
        return ""
    means = ", ".join(
        f"{key} {tables.cell(figures.mean_of(picked, after, key))}" for key in goals.COMPARED
    )
    return f"SLUG with its published setting, on {len(picked)} targets: {means}."


def _uneven(rows: Sequence[Row]) -> str:
    """Says so where methods were not run on the same targets."""
    subjects = figures.subjects(rows, "clip")
    ran = {method: {row["target"] for row in picked} for method, (picked, _) in subjects.items()}
    everything = set().union(*ran.values())
    fewer = [tables.title(method) for method, own in ran.items() if own != everything]
    if not fewer:
        return ""
    return (
        f"Not run on all {len(everything)} targets, so not to be compared by mean: "
        f"{', '.join(fewer)}."
    )


def verdict_of(duels: Sequence[goals.Duel]) -> str:
    """Who dominates RAZOR, and whom RAZOR dominates, in a sentence."""
    over = [tables.title(duel.rival) for duel in duels if duel.rival_dominates]
    under = [tables.title(duel.rival) for duel in duels if duel.razor_dominates]
    first = f"RAZOR is dominated by {', '.join(over)}." if over else "No rival dominates RAZOR."
    second = f" RAZOR dominates {len(under)} of {len(duels)}"
    return first + second + (f": {', '.join(under)}." if under else ".")


def _attacks(rows: Sequence[Row]) -> Iterator[str]:
    attacked = [row for row in rows if row.get("suite") == "clip" and row.get("robustness")]
    if not attacked:
        return
    yield section(
        "Robustness",
        "The base is the negative control, which every attack must find; gold is the positive one, "
        "which never knew the target. M5 compares with the base's answers, unrounded.",
        _blunt(attacked),
        tables.attacks(attacked),
    )


def _blunt(rows: Sequence[Row]) -> str:
    """Names the attacks that do not even find the un-erased: their low figures mean nothing."""
    subjects = figures.subjects(rows, "clip")
    picked, moment = subjects["base"]
    dull = []
    for key, name in tables.attack_names(rows).items():
        found = figures.mean_of(picked, moment, key)
        if found is not None and found.value < FIRES:
            dull.append(f"{name} ({tables.number(found.value)} %)")
    if not dull:
        return f"Each attack finds the un-erased in at least {FIRES:g} % of pictures."
    return (
        f"Too blunt to be evidence, finding less than {FIRES:g} % of the base: {'; '.join(dull)}."
    )


def _parts(rows: Sequence[Row], drawn: Sequence[str]) -> Iterator[str]:
    if any(row.get("suite") == "ablation" and row.get("variant") for row in rows):
        remarks = "\n".join(f"- {remark}" for remark in ablations.remarks(rows))
        yield section(
            "Ablations",
            "One part switched off at a time. Below: the difference to the default on the same "
            "targets and seeds.",
            ablations.table(rows),
            remarks,
            *_published_ablations(rows),
        )
    if plots.SCORES in drawn:
        yield section(
            "What is scored and chosen",
            _picture(drawn, plots.SCORES, "mean score of each unit; numbers: how often chosen"),
        )


def _published_ablations(rows: Sequence[Row]) -> Iterator[str]:
    compared = ablations.against_paper(rows)
    if compared:
        yield (
            "Do the parts matter as they do in the paper? Points with the part off less points of "
            "the whole; paper: CLIP on CIFAR-10, other data and measures, so only directions "
            f"compare. Below {ablations.MOVES:g} points the paper's figure counts as no movement."
        )
        yield compared


def _requests(rows: Sequence[Row]) -> Iterator[str]:
    suites = {row.get("suite") for row in rows}
    if "several" in suites:
        yield section(
            "Several targets in one request",
            "The same targets one at a time on top, where they were run. Targets of one request "
            "share one edit, so they are not independent.",
            tables.several(rows),
        )
    if "line" in suites:
        yield section(
            "Requests one after another",
            "M1 of each target after each request, each on the model that the one before left.",
            tables.line(rows),
            _came_back(rows),
            _gone_before(rows),
        )


def _came_back(rows: Sequence[Row]) -> str:
    later = [
        row
        for row in rows
        if row.get("suite") == "line" and int(row["measured_after"]) > int(row["position"])
    ]
    row, found = figures.worst(later, after("M1"), largest=True)
    if row is None or found is None:
        return ""
    return (
        f"Largest M1 of an earlier target after a later request: {tables.cell(found)}, "
        f"n = {found.n} ({row['target']}, after request {row['measured_after']})."
    )


def _gone_before(rows: Sequence[Row]) -> str:
    """Whom earlier requests had harmed so much that nothing was left to forget."""
    gone = [f"{r['target']} (request {r['position']})" for r in figures.unknown(rows, "line")]
    if not gone:
        return ""
    return (
        f"No longer known when the request came, so nothing was edited: {', '.join(gone)}. That is "
        "harm done by the requests before, which the tables of single requests do not show."
    )


def _faces(rows: Sequence[Row]) -> Iterator[str]:
    unknown = {row["target"] for row in figures.unknown(rows, "faces")}
    faces = [row for row in rows if row.get("suite") == "faces"]
    known = [row for row in faces if row["target"] not in unknown]
    if not faces:
        return
    yield section(
        "Real faces",
        FACES_CREDIT,
        _strangers(len({row["target"] for row in faces}), len(unknown)),
        tables.main(known, "faces"),
        tables.pictures(known, "faces"),
        tables.extremes(known, "faces"),
    )


def _strangers(everybody: int, unknown: int) -> str:
    """How many the base could not tell from others, so that there was nothing to forget."""
    if not unknown:
        return ""
    return (
        f"Of {everybody} people the base does not know {unknown} better than chance (by their fit "
        "and select pictures): nothing was edited for them, and they are in no row."
    )


def _published() -> str:
    return section(
        "Published figures",
        "Other data, other model, not comparable with ours: CLIP on LAION, as printed in arXiv "
        "2603.14819, which names M1 to M5 without formulas; we know no n or interval.",
        tables.published(),
    )


def _tuning(rows: Sequence[Row]) -> Iterator[str]:
    tuned = [row for row in rows if row.get("suite") == "tuning"]
    if tuned:
        yield section(
            "How the rivals were tuned",
            "Mean regret on select pictures over the tuning targets; lower is better. No test "
            "picture was seen.",
            tables.tuning(rows),
            "\n".join(edges(tuned)),
        )


def edges(rows: Sequence[Row]) -> Iterator[str]:
    """Where a choice lies at the edge of what was tried, the best may lie outside."""
    for method in figures.order({str(row["method"]) for row in rows}):
        picked = [row for row in rows if row["method"] == method and row.get("chosen")]
        for key, tried in tables.varied(rows, method).items():
            values = [one for one in tried if isinstance(one, int | float) and one is not True]
            values = [one for one in values if one is not False]
            taken = {tables.in_words((row.get("setting") or {}).get(key)) for row in picked}
            for value in sorted(one for one in set(values) & taken if one is not None):
                if len(values) > 1 and value in (min(values), max(values)):
                    yield f"- {tables.title(method)}: {key} {value} is at the edge of its grid."


def _targets(rows: Sequence[Row], drawn: Sequence[str]) -> Iterator[str]:
    razor = [row for row in figures.chosen(rows, "clip", "razor") if int(row.get("seed") or 0) == 0]
    if plots.SIMILARITY in drawn:
        yield section(
            "Similarity of classes",
            _picture(drawn, plots.SIMILARITY, "before and after one edit, the target first"),
        )
    if razor:
        n = ", ".join(f"{key} {tables.spread(razor, after, key)}" for key in tables.METRICS)
        yield section(
            "RAZOR, target by target",
            f"Seed 0, each figure with the interval of its run; the gate passes "
            f"{tables.verdicts(razor)}. n per target: {n.replace('_', ' ')}.",
            tables.targets(rows),
        )


def _picture(drawn: Sequence[str], name: str, words: str) -> str:
    return f"![{words}]({name})" if name in drawn else ""
