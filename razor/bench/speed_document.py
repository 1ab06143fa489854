"""``speed.md``: what jobs cost beside their floor, computed from the rows."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from razor.bench.document import versions
from razor.bench.speed import REFERENCE, Row
from razor.bench.tables import markdown

NAME: Final = "speed"
PLOT: Final = "speed_cost.png"
GIGABYTE: Final = 1e9
#: Asked for: edit over floor, job over SLUG's, memory, a patch, cold over warm, stream over cat.
FLOOR, SLUG, MEMORY, WARM, STREAM = 1.5, 1.0, 1.35, 3.0, 1.3
SIZES: Final[Mapping[str, str]] = {
    REFERENCE: "the shipped CLIP",
    "vit-s-32": "ViT-S/32",
    "vit-b-32": "ViT-B/32",
    "vit-b-16": "ViT-B/16",
    "vit-l-14": "ViT-L/14",
}

HEAD: Final = """# Speed: what a job costs, beside the least that it could

`{command}`

Random weights in real shapes (open_clip's own configurations, float32; the shipped CLIP as it
is), so a job's cost is real and its result means nothing. Jobs are whole: preflight, edit,
evaluation, as a worker runs them, without attacks. What RAZOR's gauge answers is scripted to the
length of a typical run ({script}); SLUG is the published procedure: ten
evaluations, one unit. Each point is a process of its own, {threads} threads, seed 0; **ratios**
count, not seconds. {versions}.

- **cold job**: the first after a start, with nothing kept; **warm job**: the same request again in
  that process.
- **floor** of an edit: one forward and backward over the fit data for all units, and a plain
  forward of each row that the edit's readings ask for, each by itself and from the first layer
  on. All measured in the same process, medians of three. Texts that share their beginnings let an
  edit fall below it.
- **memory**: the highest resident size of a cold job, over plain inference on the fit data in a
  process of its own plus one gradient of the units.
"""


def write(rows: Sequence[Row], folder: Path, command: str) -> None:
    """The document, its raw rows and its plot."""
    folder.mkdir(parents=True, exist_ok=True)
    raw = json.dumps(list(rows), indent=1) + "\n"
    (folder / f"{NAME}.json").write_text(raw, encoding="utf-8")
    drawn = _draw(rows, folder / PLOT)
    (folder / f"{NAME}.md").write_text(text(rows, command, plot=drawn), encoding="utf-8")


def text(rows: Sequence[Row], command: str, *, plot: bool = False) -> str:
    """The document in Markdown."""
    from razor.bench.scripted import FORGOTTEN_AFTER, REPAIRED_AFTER

    threads = sorted({row["threads"] for row in rows})
    head = HEAD.format(
        command=command,
        script=f"{FORGOTTEN_AFTER} updates and {REPAIRED_AFTER} that repair",
        threads=" or ".join(map(str, threads)),
        versions=versions(("torch", "open-clip-torch")),
    )
    parts = [head, "## Figures to reach", _figures(rows), "## Jobs", _jobs(rows)]
    parts += ["## Where an edit's time goes", _edits(rows), "## Cold start", _cold(rows)]
    parts += ["## Patched weights as a stream", _streams(rows)]
    parts += ["## What stands between an edit and its floor", _between(rows)]
    if plot:
        parts += ["## Cost against size and data", f"![cost]({PLOT})"]
    return "\n\n".join(parts) + "\n"


def ratio_to_floor(row: Row, job: str = "cold_job") -> float:
    """The edit's wall time over its floor."""
    return float(row[job]["phase_seconds"]["edit"] / _floor(row, job))


def _floor(row: Row, job: str) -> float:
    floor, rows = row["floor"], row[job]["edit_rows"]
    once = floor["fit"] if job == "cold_job" else 0.0
    texts, pictures = rows.get("text forward", 0), rows.get("image forward", 0)
    return float(once + texts * floor["text"] + pictures * floor["picture"])


def _pairs(rows: Sequence[Row]) -> Iterator[tuple[Row, Row, Row]]:
    """RAZOR's row, SLUG's and plain inference's of each point."""
    keys = ("size", "samples", "retained", "seed", "threads")
    by: dict[tuple[Any, ...], dict[str | None, Row]] = {}
    for row in rows:
        if row["caches"]:
            by.setdefault(tuple(row[key] for key in keys), {})[row["method"]] = row
    for found in by.values():
        if {"razor", "slug", None} <= found.keys():
            yield found["razor"], found["slug"], found[None]


def _memory(row: Row, plain: Row) -> float:
    return float(
        row["cold_job"]["peak_memory_bytes"] / (plain["peak_memory_bytes"] + row["unit_bytes"])
    )


def _start(plain: Row) -> float:
    return float(sum(plain["cold"].values()))


def _figures(rows: Sequence[Row]) -> str:
    lines = []
    for razor, slug, plain in _pairs(rows):
        if razor["size"] == REFERENCE:
            continue
        name = f"{SIZES[razor['size']]}, {razor['fit_pairs']} fit pairs, {razor['samples']} samples"
        cold = _start(plain) + razor["cold_job"]["seconds"]
        checks = (
            ("edit / floor", ratio_to_floor(razor), FLOOR, True, "x"),
            (
                "job / SLUG's job, cold",
                razor["cold_job"]["seconds"] / slug["cold_job"]["seconds"],
                SLUG,
                True,
                "x",
            ),
            (
                "job / SLUG's job, warm",
                razor["warm_job"]["seconds"] / slug["warm_job"]["seconds"],
                SLUG,
                True,
                "x",
            ),
            ("memory", _memory(razor, plain), MEMORY, True, "x"),
            (
                "first job of a cold worker / second",
                cold / razor["warm_job"]["seconds"],
                WARM,
                False,
                "x",
            ),
        )
        for what, found, bound, upper, unit in checks:
            met = found <= bound if upper else found >= bound
            lines.append(
                [
                    name,
                    what,
                    f"at {'most' if upper else 'least'} {bound:g}{unit}",
                    f"{found:.2f}{unit}",
                    "yes" if met else "no",
                ]
            )
    return markdown(("model", "figure", "wanted", "found", "reached"), lines)


def _jobs(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        if row["method"] is None:
            continue
        cold, warm = row["cold_job"], row["warm_job"]
        lines.append(
            [
                SIZES[row["size"]],
                row["method"].upper() + ("" if row["caches"] else ", nothing kept"),
                f"{row['weights'] / 1e6:.0f} M",
                str(row["samples"]),
                f"{row['fit_pairs']} + {row['select_pairs']}",
                f"{cold['seconds']:.1f}",
                f"{warm['seconds']:.1f}",
                *(
                    f"{cold['phase_seconds'][phase]:.1f}"
                    for phase in ("preflight", "edit", "evaluate")
                ),
                f"{cold['forward_passes']} + {cold['backward_passes']}",
                f"{cold['peak_memory_bytes'] / GIGABYTE:.2f}",
                f"{cold['patch_bytes'] / 1e6:.2f}",
                ", ".join(cold["edited"]),
            ]
        )
    return markdown(
        ("model", "method", "weights", "samples", "fit + select pairs", "cold job, s",
         "warm job, s", "preflight, s", "edit, s", "evaluate, s", "passes forward + backward",
         "peak, GB", "patch, MB", "edited"),
        lines,
    )  # fmt: skip


def _edits(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        if row["method"] is None or "floor" not in row:
            continue
        for job in ("cold_job", "warm_job"):
            counted, floor = row[job]["edit_rows"], row["floor"]
            lines.append(
                [
                    f"{SIZES[row['size']]}, {row['fit_pairs']} fit pairs",
                    row["method"].upper() + ("" if row["caches"] else ", nothing kept"),
                    job.replace("_job", ""),
                    f"{row[job]['phase_seconds']['edit']:.2f}",
                    f"{floor['fit'] if job == 'cold_job' else 0:.2f}",
                    f"{counted.get('text forward', 0)} x {1000 * floor['text']:.2f}",
                    f"{counted.get('image forward', 0)} x {1000 * floor['picture']:.2f}",
                    f"{_floor(row, job):.2f}",
                    f"{ratio_to_floor(row, job):.2f}",
                    f"{counted.get('text gradient', 0)} + {counted.get('image gradient', 0)}",
                ]
            )
    return markdown(
        ("model", "method", "job", "edit, s", "fit data once, s", "texts read x ms",
         "pictures read x ms", "floor, s", "edit / floor", "texts + pictures with a gradient"),
        lines,
    )  # fmt: skip


def _cold(rows: Sequence[Row]) -> str:
    parts = ("import", "digest", "load", "retain set")
    lines = [
        [f"{SIZES[row['size']]}, {row['fit_pairs']} fit pairs"]
        + [f"{row['cold'][part]:.2f}" for part in parts]
        + [f"{_start(row):.2f}"]
        for row in rows
        if row["method"] is None
    ]
    return markdown(("model", *(f"{part}, s" for part in parts), "in all, s"), lines)


BETWEEN: Final = """Everything in a cold edit that is not in its floor is gradients: the floor
has one pass over the fit data for all units, an edit has {updates} updates, each with a batch of
retained captions and one that names the target. They go through the text tower alone, the tower
that is edited first; the pictures of the fit data need no gradient until it has failed, which is
why some edits stay below what the floor allows for them. SLUG takes five gradients and ten
readings, so on small data it stays cheaper: what many short updates spare the rest of the model
is paid for in passes."""


def _between(rows: Sequence[Row]) -> str:
    """Where RAZOR's cold edits spend their time, and why."""
    from razor.bench.scripted import FORGOTTEN_AFTER, REPAIRED_AFTER

    lines = []
    for row in rows:
        if row["method"] != "razor" or not row["caches"]:
            continue
        seconds, floor = row["cold_job"]["phase_seconds"]["edit"], row["floor"]
        counted = row["cold_job"]["edit_rows"]
        read = counted.get("text forward", 0) * floor["text"]
        read += counted.get("image forward", 0) * floor["picture"]
        lines.append(
            [
                f"{SIZES[row['size']]}, {row['fit_pairs']} fit pairs, {row['samples']} samples",
                f"{100 * min(1.0, read / seconds):.0f} %",
                f"{100 * max(0.0, 1 - read / seconds):.0f} %",
                f"{100 * floor['fit'] / seconds:.0f} %",
            ]
        )
    heads = ("model", "readings", "gradients, selection, bookkeeping", "the floor's one pass")
    text = BETWEEN.format(updates=FORGOTTEN_AFTER + REPAIRED_AFTER)
    return text + "\n\n" + markdown(heads, lines)


def _streams(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        if "stream" in row and row["caches"]:
            found = row["stream"]
            ours, cat = (statistics.median(found["seconds"][who]) for who in ("ours", "cat"))
            lines.append(
                [
                    f"{SIZES[row['size']]}, {row['fit_pairs']} fit pairs, {row['samples']} samples",
                    f"{found['bytes'] / 1e6:.1f}",
                    f"{ours:.3f}",
                    f"{cat:.3f}",
                    f"{ours / cat:.2f}x",
                    f"at most {STREAM:g}x",
                    f"{found['added_memory_bytes'] / 1e6:.1f}",
                ]
            )
    return markdown(
        ("model", "MB", "ours, s", "cat, s", "ratio", "wanted", "memory added, MB"), lines
    )


def _draw(rows: Sequence[Row], path: Path) -> bool:
    """Seconds of a cold job against weights, samples and retained pairs; False: nothing to draw."""
    if find_spec("matplotlib") is None:
        return False
    from matplotlib.figure import Figure

    found = [(razor, slug) for razor, slug, _ in _pairs(rows)]
    if not found:
        return False
    middle = _middle(found)
    panels = []
    for key, label, unit, fixed in (
        ("weights", "weights (millions)", 1e6, ("samples", "retained")),
        ("samples", "sample pictures", 1, ("size", "retained")),
        ("fit_pairs", "retained pairs to fit", 1, ("size", "samples")),
    ):
        same = [pair for pair in found if all(pair[0][k] == middle[k] for k in fixed)]
        if len(same) > 1:
            panels.append((key, label, unit, sorted(same, key=lambda pair: pair[0][key])))
    if not panels:
        return False
    figure = Figure(figsize=(1 + 3.2 * len(panels), 3.4), dpi=100, layout="constrained")
    every = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (key, label, unit, same) in zip(every, panels, strict=True):
        for place, (name, colour, marker) in enumerate(
            (("RAZOR", "#D55E00", "o"), ("SLUG", "#0072B2", "^"))
        ):
            values = [pair[place]["cold_job"]["seconds"] for pair in same]
            places = [pair[0][key] / unit for pair in same]
            axes.plot(places, values, marker=marker, color=colour, label=name)
        axes.set_xlabel(label)
        axes.set_ylim(bottom=0)
        axes.grid(color="#dddddd", linewidth=0.6)
    figure.axes[0].set_ylabel("cold job (s)")
    figure.axes[0].legend(frameon=False)
    figure.savefig(path)
    return True


def _middle(found: Sequence[tuple[Row, Row]]) -> Row:
    """The point that most others differ from in one respect."""

    def near(row: Row) -> int:
        keys = ("size", "samples", "retained")
        return sum(sum(row[k] != other[k] for k in keys) == 1 for other, _ in found)

    return max((row for row, _ in found), key=near)
