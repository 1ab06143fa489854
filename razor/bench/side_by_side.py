"""What documents of single requests share: methods below each other, attacks, costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from razor.bench import figures, plots, tables
from razor.bench.figures import Estimate, Row

#: Seconds on the clock, or those that processors computed: which of a row's figures is shown.
CLOCK, PROCESSOR = "seconds", "processor_seconds"


def methods(rows: Sequence[Row], suite: str, metrics: Sequence[str], seconds: str = CLOCK) -> str:
    """One line per method: the mean of each metric over the rows' targets, and costs."""
    lines = []
    for method, (picked, moment) in figures.subjects(rows, suite).items():
        cells = (tables.cell(figures.mean_of(picked, moment, key)) for key in metrics)
        lines.append([tables.title(method), *cells, *costs(method, picked, seconds)])
    return tables.markdown(["", *map(heading, metrics), *cost_heads(seconds)], lines)


def cost_heads(seconds: str = CLOCK) -> list[str]:
    """The heads of what ``costs`` gives."""
    return [heading(seconds), "patch, kB", "gate: pass"]


def costs(method: str, picked: Sequence[Row], seconds: str = CLOCK) -> list[str]:
    """Medians; of what edits nothing, none."""
    if method in plots.REFERENCES:
        return [tables.NONE] * len(cost_heads())
    size = figures.median(figures.numbers(picked, "patch_bytes") / tables.KILOBYTE)
    # One run's or a few runs' costs: an interval would say nothing.
    took = figures.median(figures.numbers(picked, seconds))
    plain = [tables.NONE if e is None else tables.number(e.value, 0) for e in (took, size)]
    return [*plain, tables.verdicts(picked)]


def attacks(
    rows: Sequence[Row], suite: str, targets: Sequence[str], names: Mapping[str, str]
) -> str:
    """Target by target what each attack finds on the base, after RAZOR, and on gold."""
    lines = []
    for target in targets:
        own = [row for row in rows if row.get("target") == target]
        subjects = figures.subjects(own, suite)
        lines += [
            [target, name]
            + [
                tables.cell(figures.mean_of(*subjects[who], key)) if who in subjects else ""
                for who in ("base", "razor", "gold")
            ]
            for key, name in names.items()
            if any(key in {**row["robustness"], **row["metrics"]} for row in own)
        ]
    return tables.markdown(["target", "", "base", "RAZOR", "gold"], lines)


def attacked(rows: Sequence[Row], suite: str) -> list[Row]:
    """The rows of runs that were attacked."""
    return [row for row in rows if row.get("robustness") and row.get("suite") == suite]


def largest(values: Sequence[float]) -> Estimate | None:
    """The largest of a few runs, without an interval; None without any."""
    if not len(values):
        return None
    found = float(max(values))
    return Estimate(found, found, found, len(values), 0)


def heading(key: str) -> str:
    """A metric's id as people write it."""
    return key.replace("_", " ")
