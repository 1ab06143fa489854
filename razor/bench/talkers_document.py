"""The comparison of vision-language models as a document, computed from the rows."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

from razor.bench import figures, goals, plots, portraits, side_by_side, tables
from razor.bench.document import edges, section, taken_over, verdict_of, versions
from razor.bench.figures import Estimate, Row, after, change
from razor.bench.goals import Goal
from razor.bench.plan import COMPARISON
from razor.bench.side_by_side import PROCESSOR
from razor.bench.talkers import SAMPLES
from razor.bench.vlm import LLAVA, LLAVA_NEXT, MORE, TARGETS, TUNED_ON

NAME = "vlm"
PARETO, ANSWERS = "vlm_pareto.png", "vlm_answers"
METRICS = (
    *("NR", "NR_sampled", "wrong_name", "no_name"),
    *("RNR", "RNR_near", "VQA", "VQA_target", "CA"),
)
#: Metric -> whether more is better: what forgetting and keeping come to.
COMPARED: Mapping[str, bool] = {"NR": False, "RNR": True, "VQA": True}
MODELS = {LLAVA: "LLaVA 1.5", LLAVA_NEXT: "LLaVA-NeXT"}
ATTACKS = {
    "NR": "NR, no attack",
    "NR_int8": "NR, weights in 8 bits",
    "NR_int4": "NR, weights in 4 bits",
    "RNR_int4": "RNR, weights in 4 bits",
    "VQA_int4": "VQA, weights in 4 bits",
    "NR_confirm": '"Is this NAME?", yes',
    "yes_other": '"Is this SOMEBODY ELSE?", yes',
    "NR_complete": '"Complete: this is NA", completed',
}
PACKAGES = ("razor-unlearning", "torch", "transformers", "tokenizers", "numpy")
MOST_SECONDS, MOST_BYTES = 120, 3e9


def write(rows: Sequence[Mapping[str, Any]], out: Path, command: str) -> None:
    """Writes ``vlm.md``, ``vlm.json``, the plot and the page of answers into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    kept = figures.tidy(rows)
    lines = ",\n".join(json.dumps(row, allow_nan=False, separators=(",", ":")) for row in kept)
    (out / f"{NAME}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    drawn = []
    if find_spec("matplotlib") is not None and (points := _points(kept)):
        labels = "no longer named, 100 - NR (%)", "kept, mean of RNR and VQA (%)"
        plots.scatter(points, labels, out / PARETO)
        drawn.append(PARETO)
    (out / f"{NAME}.md").write_text(text(kept, command, drawn), encoding="utf-8")
    page = answers(kept)
    if page:
        _strip(kept).save(out / f"{ANSWERS}.png")
        (out / f"{ANSWERS}.md").write_text(page, encoding="utf-8")


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """The means over the four people on LLaVA 1.5, for a terminal."""
    return side_by_side.methods(_compared(figures.tidy(rows)), LLAVA, METRICS, PROCESSOR)


def text(rows: Sequence[Row], command: str, drawn: Sequence[str] = ()) -> str:
    """The document in Markdown; ``drawn`` are the pictures that lie beside it."""
    sections = [
        _what_was_run(rows, command),
        section("Figures to reach", tables.reached(reach(rows))),
        *(part for suite in MODELS for part in _comparison(rows, suite, drawn)),
        *_attacks(rows),
        *_tuning(rows),
    ]
    return "# Vision-language models: every method on the same people\n\n" + (
        "\n\n".join(sections) + "\n"
    )


def answers(rows: Sequence[Row]) -> str:
    """A page of questions with the answers before and after RAZOR; empty where none were kept."""
    told = _told(rows)
    if not told:
        return ""
    numbers = {picture: k + 1 for k, picture in enumerate(_pictures(rows))}
    parts = [
        "# Questions and answers, before and after",
        f"![the drawings, numbered from the left, row by row]({ANSWERS}.png)",
        "Greedy answers of the shipped models on drawings that no run fitted or selected on. The "
        "drawings are numbered row by row from the upper left.",
    ]
    for row in told:
        lines = [
            [str(numbers[str(who), int(k)]), str(who), question, before, now]
            for who, k, question, before, now in row["said"]
        ]
        parts.append(
            section(
                f"{MODELS[row['suite']]}: {row['target']} is to be forgotten",
                tables.markdown(["drawing", "shows", "question", "before", "after"], lines),
            )
        )
    return "\n\n".join(parts) + "\n"


def reach(rows: Sequence[Row]) -> list[Goal]:
    """Every figure to reach, over all people that RAZOR was run on."""
    found = []
    for suite, word in MODELS.items():
        own = figures.chosen(rows, suite, "razor")
        if not own:
            continue
        found.append(Goal(f"{word}: NR, mean", 2, True, figures.mean_of(own, after, "NR")))
        row, reading = figures.worst(own, after("NR"), largest=True)
        worst = None
        if row is not None and reading is not None:
            worst = Estimate(reading.value, reading.low, reading.high, 1, reading.n)
        note = str(row["target"]) if row is not None else ""
        found.append(Goal(f"{word}: NR, worst run", 2, True, worst, note=note))
        found += [
            Goal(f"{word}: {key}, mean change", -1, False, figures.mean_of(own, change, key))
            for key in ("RNR", "VQA")
        ]
        for key in COMPARED:
            moved = figures.gap(after(f"{key}_int4"), after(key))
            estimate = figures.mean(figures.by_target(own, moved))
            found.append(Goal(f"{word}: int4 moves {key} by", 2, True, estimate, absolute=True))
    every = [row for suite in MODELS for row in figures.chosen(rows, suite, "razor")]
    for words, key, scale, bound, unit in (
        ("longest job, processor", PROCESSOR, 1.0, MOST_SECONDS, " s"),
        ("most memory", "peak_memory_bytes", 1e9, MOST_BYTES / 1e9, " GB"),
    ):
        most = side_by_side.largest((figures.numbers(every, key) / scale).tolist())
        found.append(Goal(words, bound, True, most, unit))
    broken = len([r for r in figures.failed(rows) if r.get("method") == "razor"])
    return [Goal(**{**vars(goal), "failed": broken}) for goal in found]


def _what_was_run(rows: Sequence[Row], command: str) -> str:
    razor = [row for suite in MODELS for row in figures.chosen(rows, suite, "razor")]
    keys = ("NR", "NR_sampled", "RNR", "RNR_near", "VQA")
    counts = ", ".join(f"{key} {tables.spread(razor, after, key)}" for key in keys)
    done = {str(row["target"]) for row in razor}
    more = [name for name in MORE if name in done]
    lines = [
        f"- People to forget: {', '.join(name for name in TARGETS if name in done)}"
        + (f"; for RAZOR on LLaVA 1.5 alone also {', '.join(more)}." if more else "."),
        f"- {SAMPLES} drawings a request, forty more of the person to measure with. A third of the "
        "ways to ask is used in the test alone, and no test picture was fitted or selected on.",
        f"- Answers per person: {counts}. Seed 0, one run each.",
        "- Rivals learn from 160 augmented copies of the request's pictures; RAZOR's forget term "
        "draws from 128 of these.",
        "- Seconds are without attacks, of one thread. Those of the processor stay nearly the same "
        "when others share the machine; those on the clock do not, and stand in the raw rows.",
        "- (a to b) is a 95 % interval: over the answers of a run (Wilson; changes Newcombe), for "
        f"means over people a bootstrap over people ({figures.RESAMPLES} resamples, seed "
        f"{figures.SEED}). † all people gave the same figure: over all answers instead.",
        "- Four people are few: intervals over them are too narrow.",
        f"- Versions: {versions(PACKAGES)}.",
    ]
    if figures.chosen(rows, LLAVA, "gold"):
        lines.append(
            "- gold: one LLaVA 1.5 trained from nothing without any of the four; its figures leave "
            "the other three out."
        )
    lines += taken_over(rows)
    failed = figures.failed(rows)
    if failed:
        names = ", ".join(
            f"{tables.title(str(row['method']))} on {row['target']} ({MODELS[row['suite']]})"
            for row in failed
        )
        lines.append(f"- Runs that diverged and are in no mean: {names}.")
    return section("What was run", f"`{command}`", "\n".join(lines))


def _comparison(rows: Sequence[Row], suite: str, drawn: Sequence[str]) -> Iterator[str]:
    razor = figures.chosen(rows, suite, "razor")
    if not razor:
        return
    compared = _compared(rows)
    duels = goals.duels(compared, suite, COMPARED)
    yield section(
        f"{MODELS[suite]}: means over the four people",
        "NR, NR sampled and wrong name: lower is better; all others: higher (docs/method.md).",
        f"![forgetting against keeping]({PARETO})" if suite == LLAVA and PARETO in drawn else "",
        side_by_side.methods(compared, suite, METRICS, PROCESSOR),
        verdict_of(duels) if duels else "",
        tables.dominance(duels) if duels else "",
    )
    yield section(f"{MODELS[suite]}: RAZOR, person by person", _by_person(razor))


def _by_person(rows: Sequence[Row]) -> str:
    kept = METRICS[4:8]
    lines = []
    for row in rows:
        cells = [tables.cell(after(key)(row)) for key in METRICS[:3]]
        cells += [tables.cell(change(key)(row)) for key in kept]
        units = ", ".join(str(unit) for unit, *_ in row.get("edited") or ())
        lines.append(
            [str(row["target"]), *cells, *side_by_side.costs("razor", [row], PROCESSOR), units]
        )
    heads = [
        *(side_by_side.heading(key) for key in METRICS[:3]),
        *(f"{side_by_side.heading(key)}, change" for key in kept),
    ]
    return tables.markdown(["person", *heads, *side_by_side.cost_heads(PROCESSOR), "edited"], lines)


def _attacks(rows: Sequence[Row]) -> Iterator[str]:
    for suite, word in MODELS.items():
        attacked = side_by_side.attacked(rows, suite)
        if not attacked:
            continue
        steps = sorted(
            {
                int(key.removeprefix("NR_relearn"))
                for row in attacked
                for key in row["robustness"]
                if key.startswith("NR_relearn")
            }
        )
        names = {
            **ATTACKS,
            **{f"NR_relearn{n}": f"NR after {n} steps of relearning" for n in steps},
        }
        yield section(
            f"{word}: robustness",
            "NR: the share of answers that name the person. Gold never knew them: what it learns "
            "in as many steps was taught, not found.",
            side_by_side.attacks(attacked, suite, TARGETS, names),
        )


def _tuning(rows: Sequence[Row]) -> Iterator[str]:
    tuned = [row for row in rows if row.get("suite") == "tuning"]
    if tuned:
        yield section(
            "How the rivals were tuned",
            f"On LLaVA 1.5 and on other people ({', '.join(sorted(TUNED_ON))}), by the mean regret "
            "on fit and select pictures; lower is better. No test picture was seen.",
            tables.tuning(rows),
            "\n".join(edges(tuned)),
        )


def _compared(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.get("target") in TARGETS]


def _told(rows: Sequence[Row]) -> list[Row]:
    return [
        row for suite in MODELS for row in figures.chosen(rows, suite, "razor") if row.get("said")
    ]


def _pictures(rows: Sequence[Row]) -> list[tuple[str, int]]:
    """Every drawing of the page once, in the page's order."""
    said = (each for row in _told(rows) for each in row["said"])
    return list(dict.fromkeys((str(who), int(k)) for who, k, *_ in said))


def _strip(rows: Sequence[Row], wide: int = 8) -> Image.Image:
    """The drawings in rows of eight."""
    drawings = (portraits.png(who, COMPARISON.probes, k) for who, k in _pictures(rows))
    found = [Image.open(io.BytesIO(drawing)) for drawing in drawings]
    side = found[0].width
    sheet = Image.new("RGB", (wide * side, -(-len(found) // wide) * side), "white")
    for number, picture in enumerate(found):
        sheet.paste(picture, (number % wide * side, number // wide * side))
    return sheet


def _points(rows: Sequence[Row]) -> dict[str, tuple[Estimate, Estimate]]:
    found = {}
    for method, (picked, moment) in figures.subjects(_compared(rows), LLAVA).items():
        named = figures.mean_of(picked, moment, "NR")
        both = figures.halfway(moment("RNR"), moment("VQA"))
        kept = figures.mean(figures.by_target(picked, both))
        if named is not None and kept is not None:
            forgotten = Estimate(
                100 - named.value, 100 - named.high, 100 - named.low, named.targets, named.pictures
            )
            found[method] = (forgotten, kept)
    return found
