"""The comparison of picture generators as a document: every figure is computed from the rows."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from razor.bench import figures, goals, plots, side_by_side, tables
from razor.bench.diffusion import MMDIT, MORE, TARGETS, UNET
from razor.bench.document import edges, section, verdict_of, versions
from razor.bench.figures import Estimate, Row, after, change
from razor.bench.goals import Goal

NAME = "diffusion"
PARETO = "diffusion_pareto.png"
METRICS = ("UA", "IRA", "IRA_near", "CRA", "CRA_target", "S", "KID")
#: Metric -> whether more is better: what forgetting and keeping come to.
COMPARED: Mapping[str, bool] = {"UA": True, "IRA": True, "CRA": True}
KINDS = {"identity": "person", "object": "object", "style": "style"}
PIPELINES = {UNET: "U-Net", MMDIT: "MMDiT"}
ATTACKS = {
    "UA": "UA, no attack",
    "UA_int8": "UA, weights in 8 bits",
    "UA_int4": "UA, weights in 4 bits",
    "UA_paraphrase": "UA, other sentences",
    "UA_partial": "UA, half the name",
    "UA_misspelt": "UA, name misspelt",
    "UA_learnt": "UA, a word learnt from pictures",
    "IRA_int8": "IRA, weights in 8 bits",
    "IRA_int4": "IRA, weights in 4 bits",
}
PACKAGES = ("razor-unlearning", "torch", "diffusers", "transformers", "numpy")
MOST_SECONDS, MOST_BYTES = 240, 3e9


def write(rows: Sequence[Mapping[str, Any]], out: Path, command: str) -> None:
    """Writes ``diffusion.md``, ``diffusion.json``, the plot and grids into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    kept = figures.tidy([{k: v for k, v in row.items() if k != "grid"} for row in rows])
    lines = ",\n".join(json.dumps(row, allow_nan=False, separators=(",", ":")) for row in kept)
    (out / f"{NAME}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    drawn = _grids(rows, out)
    if find_spec("matplotlib") is not None and (points := _points(kept)):
        labels = "forgotten, UA (%)", "kept, mean of IRA and CRA (%)"
        plots.scatter(points, labels, out / PARETO)
        drawn.append(PARETO)
    (out / f"{NAME}.md").write_text(text(kept, command, drawn), encoding="utf-8")


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """The means over the three targets on the U-Net, for a terminal."""
    return _means(figures.tidy(rows), UNET)


def text(rows: Sequence[Row], command: str, drawn: Sequence[str] = ()) -> str:
    """The document in Markdown; ``drawn`` are the pictures that lie beside it."""
    sections = [
        _what_was_run(rows, command),
        section("Figures to reach", tables.reached(reach(rows))),
        *(part for suite in PIPELINES for part in _comparison(rows, suite, drawn)),
        *_attacks(rows),
        *_tuning(rows),
    ]
    return "# Picture generators: every method on the same targets\n\n" + (
        "\n\n".join(sections) + "\n"
    )


def reach(rows: Sequence[Row]) -> list[Goal]:
    """Every figure to reach. Means are over all targets of a kind that RAZOR was run on."""
    found = []
    for kind, word in KINDS.items():
        own = [row for row in figures.chosen(rows, UNET, "razor") if row.get("kind") == kind]
        found.append(Goal(f"UA, {word}", 97, False, figures.mean_of(own, after, "UA")))
        found += [
            Goal(f"{key}, {word}, change", -2, False, figures.mean_of(own, change, key))
            for key in ("IRA", "CRA")
        ]
    for kind, word in KINDS.items():
        sides = [
            [row for row in figures.chosen(rows, suite, "razor") if row.get("kind") == kind]
            for suite in (MMDIT, UNET)
        ]
        for key, moment in (("UA", after), ("IRA", change), ("CRA", change)):
            pair = [figures.by_target(side, moment(key)) for side in sides]
            lead = figures.difference(pair[0], pair[1])
            found.append(Goal(f"{key}, {word}, MMDiT less U-Net", -2, False, lead))
    every = [row for suite in PIPELINES for row in figures.chosen(rows, suite, "razor")]
    for words, key, scale, bound, unit in (
        ("longest job", "seconds", 1.0, MOST_SECONDS, " s"),
        ("most memory", "peak_memory_bytes", 1e9, MOST_BYTES / 1e9, " GB"),
    ):
        found.append(
            Goal(
                words,
                bound,
                True,
                side_by_side.largest((figures.numbers(every, key) / scale).tolist()),
                unit,
            )
        )
    shares = [100 * row["patch_bytes"] / row["checkpoint_bytes"] for row in every]
    found.append(
        Goal("largest patch, share of the bytes", 5, True, side_by_side.largest(shares), " %")
    )
    broken = len([r for r in figures.failed(rows) if r.get("method") == "razor"])
    return [Goal(**{**vars(goal), "failed": broken}) for goal in found]


def _what_was_run(rows: Sequence[Row], command: str) -> str:
    razor = [row for suite in PIPELINES for row in figures.chosen(rows, suite, "razor")]
    counts = ", ".join(
        f"{key} {tables.spread(razor, after, key)}" for key in ("UA", "IRA", "IRA_near", "CRA")
    )
    done = {str(row["target"]) for row in razor}
    more = [name for name in MORE if name in done]
    lines = [
        f"- Targets: {', '.join(name for name in TARGETS if name in done)}"
        + (f"; for RAZOR alone also {', '.join(more)}." if more else "."),
        "- Eight drawings a request. Pictures are painted with 20 steps and guidance 3 to prompts "
        "and seeds that no run fitted or selected on, equal ones before and after; a judge that "
        "was trained on drawings alone names them.",
        f"- Pictures per target: {counts}. Seed 0, one run each.",
        "- Seconds are without attacks, of one thread with another run beside it.",
        "- (a to b) is a 95 % interval: over the pictures of a run (Wilson; changes Newcombe), for "
        f"means over targets a bootstrap over targets ({figures.RESAMPLES} resamples, seed "
        f"{figures.SEED}). † all targets gave the same figure: over all pictures instead.",
        "- A few targets are few: intervals over targets are too narrow.",
        f"- Versions: {versions(PACKAGES)}.",
    ]
    if figures.chosen(rows, UNET, "gold"):
        lines.append(
            "- gold: one pipeline trained from nothing without any of the three targets, with the "
            "same judge and autoencoder; its figures leave the other two targets out."
        )
    if not figures.chosen(rows, MMDIT, "razor"):
        lines.append("- The MMDiT was not run: none is shipped.")
    failed = figures.failed(rows)
    if failed:
        names = ", ".join(
            f"{tables.title(str(row['method']))} on {row['target']} ({PIPELINES[row['suite']]})"
            for row in failed
        )
        lines.append(f"- Runs that diverged and are in no mean: {names}.")
    return section("What was run", f"`{command}`", "\n".join(lines))


def _comparison(rows: Sequence[Row], suite: str, drawn: Sequence[str]) -> Iterator[str]:
    if not figures.chosen(rows, suite, "razor"):
        return
    word = PIPELINES[suite]
    compared = [row for row in rows if row.get("target") in TARGETS]
    duels = goals.duels(compared, suite, COMPARED)
    yield section(
        f"{word}: means over the three targets",
        f"![forgetting against keeping]({PARETO})" if suite == UNET and PARETO in drawn else "",
        _means(compared, suite),
        verdict_of(duels) if duels else "",
        tables.dominance(duels) if duels else "",
    )
    for target in TARGETS:
        yield section(
            f"{word}: {target}",
            side_by_side.methods([r for r in rows if r.get("target") == target], suite, METRICS),
            _grid(suite, target, drawn),
        )
    if extra := [r for r in figures.chosen(rows, suite, "razor") if r["target"] not in TARGETS]:
        yield section(f"{word}: RAZOR on other targets", _others(extra))


def _means(rows: Sequence[Row], suite: str) -> str:
    compared = [row for row in rows if row.get("target") in TARGETS]
    return side_by_side.methods(compared, suite, METRICS)


def _others(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        cells = [tables.cell(after("UA")(row))]
        cells += [tables.cell(change(key)(row)) for key in METRICS[1:5]]
        units = ", ".join(str(unit) for unit, *_ in row.get("edited") or ())
        lines.append([str(row["target"]), *cells, *side_by_side.costs("razor", [row]), units])
    heads = [f"{side_by_side.heading(key)}, change" for key in METRICS[1:5]]
    return tables.markdown(["target", "UA", *heads, *side_by_side.cost_heads(), "edited"], lines)


def _attacks(rows: Sequence[Row]) -> Iterator[str]:
    attacked = side_by_side.attacked(rows, UNET)
    if not attacked:
        return
    yield section(
        "Robustness",
        "UA: the share of pictures in which the judge does not see the target. On the base every "
        "attack must find it (UA low); gold never knew it, and a word learnt from its pictures "
        "shows how far such an attack teaches anew rather than finds.",
        side_by_side.attacks(attacked, UNET, TARGETS, ATTACKS),
    )


def _tuning(rows: Sequence[Row]) -> Iterator[str]:
    tuned = [row for row in rows if row.get("suite") == "tuning"]
    if tuned:
        who = sorted({str(row["target"]) for row in tuned})
        yield section(
            "How the rivals were tuned",
            f"On the U-Net and on other targets ({', '.join(who)}), by the mean regret on fit and "
            "select pictures: the share of painted pictures in which the target is seen, plus the "
            "drift d of what is retained as d / (1 + d); lower is better.",
            tables.tuning(rows),
            "\n".join(edges(tuned)),
        )


def _grids(rows: Sequence[Mapping[str, Any]], out: Path) -> list[str]:
    """RAZOR's picture grids of the three targets as files."""
    drawn = []
    for row in rows:
        if row.get("method") == "razor" and row.get("target") in TARGETS and row.get("grid"):
            name = _grid_name(str(row["suite"]), str(row["target"]))
            (out / name).write_bytes(base64.b64decode(row["grid"]))
            drawn.append(name)
    return drawn


def _grid(suite: str, target: str, drawn: Sequence[str]) -> str:
    name = _grid_name(suite, target)
    words = f"before above, after below; {target} on the left, what is retained on the right"
    return f"![{words}]({name})" if name in drawn else ""


def _grid_name(suite: str, target: str) -> str:
    return f"{suite}_{target.replace(' ', '_')}.png"


def _points(rows: Sequence[Row]) -> dict[str, tuple[Estimate, Estimate]]:
    found = {}
    compared = [row for row in rows if row.get("target") in TARGETS]
    for method, (picked, moment) in figures.subjects(compared, UNET).items():
        forgotten = figures.mean_of(picked, moment, "UA")
        both = figures.halfway(moment("IRA"), moment("CRA"))
        kept = figures.mean(figures.by_target(picked, both))
        if forgotten is not None and kept is not None:
            found[method] = (forgotten, kept)
    return found
