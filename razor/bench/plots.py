"""The comparison in pictures: PNG files, drawn without a screen.

matplotlib is imported when something is drawn and not before (extra ``bench``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from razor.bench import figures, tables
from razor.bench.figures import Estimate, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PARETO, SCORES, SIMILARITY = "clip_pareto.png", "clip_scores.png", "clip_similarity.png"
WIDTH_INCHES, DOTS_PER_INCH = 9.0, 100
#: Okabe and Ito's colours, told apart by colour-blind readers too; the markers differ as well.
LOOKS = {
    "base": ("#999999", "s"),
    "razor": ("#D55E00", "o"),
    "slug": ("#0072B2", "^"),
    "ga": ("#56B4E9", "v"),
    "ft": ("#009E73", "D"),
    "gaft": ("#CC79A7", "P"),
    "esd-x": ("#009E73", "D"),
    "esd-u": ("#56B4E9", "v"),
    "uce": ("#CC79A7", "P"),
    "salun": ("#E69F00", "X"),
    "ssd": ("#B0A000", "<"),
    "gold": ("#000000", "*"),
}
REFERENCES = ("base", "gold")
COLUMNS = ("q", "k", "v", "out", "up", "down")
NAMED_CLASSES = 40  # more labels than this cannot be read
OUTSIDE = -100.0  # percent; left of and below every panel
NEAR = 15.0  # points below the best that the enlarged panel still shows


def draw(rows: Sequence[Row], out: Path) -> list[str]:
    """Draws what the rows allow and names the files; none where matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        return []
    drawings = {PARETO: pareto, SCORES: scores, SIMILARITY: similarity}
    return [name for name, drawing in drawings.items() if drawing(rows, out / name)]


def pareto(rows: Sequence[Row], path: Path) -> bool:
    """Forgetting against keeping: one point per method with 95 % intervals, and the front."""
    points = _points(rows)
    if not points:
        return False
    scatter(points, ("forgotten, 100 - M1 (%)", "kept, mean of M4 and M6 (%)"), path)
    return True


def scatter(
    points: dict[str, tuple[Estimate, Estimate]], labels: tuple[str, str], path: Path
) -> None:
    """One point per method, whole and its upper right corner enlarged, and the front."""
    figure = _figure(4.9)
    whole, near = figure.subplots(1, 2)
    for axes in (whole, near):
        _scatter(axes, points)
        axes.set_xlabel(labels[0])
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    whole.set_ylabel(labels[1])
    whole.set_title("all methods", fontsize=10)
    near.set_title("the upper right corner, enlarged", fontsize=10)
    _enlarge(near, points)
    handles, names = whole.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=5, fontsize=9, frameon=False)
    _save(figure, path)


def _points(rows: Sequence[Row]) -> dict[str, tuple[Estimate, Estimate]]:
    found = {}
    for method, (picked, moment) in figures.subjects(rows, "clip").items():
        m1 = figures.mean_of(picked, moment, "M1")
        kept = figures.mean(
            figures.by_target(picked, figures.halfway(moment("M4"), moment("M6")))
        ) or figures.mean_of(picked, moment, "M4")
        if m1 is not None and kept is not None:
            forgotten = Estimate(
                100 - m1.value, 100 - m1.high, 100 - m1.low, m1.targets, m1.pictures
            )
            found[method] = (forgotten, kept)
    return found


def _scatter(axes: Axes, points: dict[str, tuple[Estimate, Estimate]]) -> None:
    for method, (x, y) in points.items():
        colour, marker = LOOKS.get(method, ("#666666", "h"))
        axes.errorbar(
            x.value,
            y.value,
            xerr=_arms(x),
            yerr=_arms(y),
            fmt=marker,
            color=colour,
            markersize=11 if marker == "*" else 8,
            markeredgecolor="white",
            markeredgewidth=0.6,
            capsize=2,
            elinewidth=1,
            label=tables.title(method),
            zorder=2 if method in REFERENCES else 3,
        )
    # Asking for the limits fixes them: the front's ends lie outside.
    axes.set_xlim(axes.get_xlim())
    axes.set_ylim(axes.get_ylim())
    front = _front([(x.value, y.value) for m, (x, y) in points.items() if m not in REFERENCES])
    xs, ys = [x for x, _ in front], [y for _, y in front]
    axes.plot(xs, ys, "--", color="#444444", linewidth=1, label="front", zorder=1)


def _front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other beats in both, as corners of a staircase from left to right.

    Its ends run out of the picture: to the left at the highest, down at the rightmost point.
    """
    corners: list[tuple[float, float]] = []
    best = -np.inf
    for x, y in sorted(points, reverse=True):
        if y > best:
            if corners:
                corners.append((x, corners[-1][1]))
            corners.append((x, y))
            best = y
    if not corners:
        return []
    return [(OUTSIDE, corners[-1][1]), *corners[::-1], (corners[0][0], OUTSIDE)]


def _arms(found: Estimate) -> np.ndarray:  # (2, 1)
    arms = [[found.value - found.low], [found.high - found.value]]
    lengths: np.ndarray = np.nan_to_num(np.array(arms)).clip(min=0.0)
    return lengths


def _enlarge(axes: Axes, points: dict[str, tuple[Estimate, Estimate]]) -> None:
    methods = [pair for method, pair in points.items() if method != "base"]
    right, top = (max(pair[side].value for pair in methods) for side in (0, 1))
    near = [p for p in methods if right - p[0].value <= NEAR and top - p[1].value <= NEAR]
    near = near or methods
    for side, limit in ((0, axes.set_xlim), (1, axes.set_ylim)):
        values = [pair[side].value for pair in near]
        margin = max(1.0, 0.25 * (max(values) - min(values)))
        limit(min(values) - margin, max(values) + margin)
    axes.locator_params(nbins=6)


def scores(rows: Sequence[Row], path: Path) -> bool:
    """RAZOR's scores: layers down, units across; share of each run's largest score, averaged."""
    runs = [row["scores"] for row in figures.chosen(rows, "clip", "razor") if row.get("scores")]
    if not runs:
        return False
    shares: dict[str, list[float]] = {}
    chosen: dict[str, int] = {}
    for run in runs:
        largest = max(score for _, score, _ in run) or 1.0
        for unit, score, when in run:
            shares.setdefault(unit, []).append(score / largest)
            chosen[unit] = chosen.get(unit, 0) + (when is not None)
    layers = sorted({unit.rpartition(".")[0] for unit in shares}, key=_natural)
    names = {unit.rpartition(".")[2] for unit in shares}
    columns = [name for name in COLUMNS if name in names]
    columns += sorted(names - set(COLUMNS), key=_natural)
    grid = np.full((len(layers), len(columns)), np.nan)
    figure = _figure(1.3 + 0.34 * len(layers))
    axes = figure.subplots()
    for unit, values in shares.items():
        layer, _, name = unit.rpartition(".")
        y, x = layers.index(layer), columns.index(name)
        grid[y, x] = np.mean(values)
        if chosen[unit]:
            colour = "white" if grid[y, x] < 0.55 else "black"
            axes.text(x, y, str(chosen[unit]), ha="center", va="center", color=colour, fontsize=9)
    axes.set_facecolor("#eeeeee")
    shown = axes.imshow(grid, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, fontsize=9)
    axes.set_yticks(range(len(layers)), layers, fontsize=9)
    axes.set_title(
        f"mean score / largest score of the run; numbers: chosen in so many of {len(runs)} runs",
        fontsize=10,
    )
    figure.colorbar(shown, ax=axes, pad=0.02)
    _save(figure, path)
    return True


def similarity(rows: Sequence[Row], path: Path) -> bool:
    """Similarity of classes before and after one edit, side by side on one scale."""
    row = next((row for row in rows if row.get("similarity")), None)
    if row is None:
        return False
    found = row["similarity"]
    classes = [str(name) for name in found["classes"]]
    sides = [np.array(found[side], dtype=np.float64) for side in ("before", "after")]
    size = max(float(np.nanmax(np.abs(side))) for side in sides) or 1.0
    figure = _figure(5.0)
    panels = figure.subplots(1, 2)
    for axes, side, word in zip(panels, sides, ("before", "after"), strict=True):
        shown = axes.imshow(side, cmap="PuOr_r", vmin=-size, vmax=size)
        axes.set_title(f"{word}: {row['target']}", fontsize=10)
        axes.set_xlabel("names", fontsize=9)
        _label(axes, classes, rows_too=word == "before")
        for line in (axes.axhline, axes.axvline):
            line(0.5, color="black", linewidth=0.8)
    panels[0].set_ylabel("pictures of", fontsize=9)
    figure.colorbar(shown, ax=panels, shrink=0.7, pad=0.02, label="cosine")
    _save(figure, path)
    return True


def _label(axes: Axes, classes: Sequence[str], *, rows_too: bool) -> None:
    if len(classes) > NAMED_CLASSES:
        axes.set_xticks([])
        axes.set_yticks([])
        return
    size = 9 if len(classes) <= 12 else 6
    axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=size)
    axes.set_yticks(range(len(classes)), classes if rows_too else [], fontsize=size)
    if not rows_too:
        axes.set_yticks([])


def _natural(text: str) -> list[tuple[bool, int, str]]:
    """Sorts head10 after head9."""
    parts = re.findall(r"\d+|\D+", text)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _figure(height_inches: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, height_inches), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    """Without the library's version in the file: the same picture has the same bytes."""
    metadata: dict[str, Any] = {"Software": None}
    figure.savefig(path, format="png", metadata=metadata)
