"""Seconds of a cold job against weights, samples and retained pairs, of CLIP models."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from razor.bench.speed import Row
from razor.bench.speed_rows import family_of, job_seconds, triples


def draw(rows: Sequence[Row], path: Path) -> bool:
    """The plot; False: nothing to draw, or nothing to draw with."""
    if find_spec("matplotlib") is None:
        return False
    from matplotlib.figure import Figure

    found = [(razor, slug) for razor, slug, _ in triples(rows) if family_of(razor) == "clip"]
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
            values = [job_seconds(pair[place], "cold_job") for pair in same]
            places = [pair[0][key] / unit for pair in same]
            axes.plot(places, values, marker=marker, color=colour, label=name)
        axes.set_xlabel(label)
        axes.set_ylim(bottom=0)
        axes.grid(color="#dddddd", linewidth=0.6)
    figure.axes[0].set_ylabel("cold job (s computed)")
    figure.axes[0].legend(frameon=False)
    figure.savefig(path)
    return True


def _middle(found: Sequence[tuple[Row, Row]]) -> Row:
    """The point that most others differ from in one respect."""

    def near(row: Row) -> int:
        keys = ("size", "samples", "retained")
        return sum(sum(row[k] != other[k] for k in keys) == 1 for other, _ in found)

    return max((row for row, _ in found), key=near)
