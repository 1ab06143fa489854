"""What each part of RAZOR is worth: variants beside the default on the same targets and seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

from razor.bench import figures, tables
from razor.bench.figures import Estimate, Reading, Row, after

SHOWN = ("M1", "M1_top5", "M3", "M4", "M5", "M6")
REMARKED = ("M1", "M4", "M6")
WORDS = {
    "no retain": "Without the retain term",
    "no mismatch": "Without the mismatch term",
    "no forget": "Without the forget term",
    "no selection": "Without selection (every matrix at once)",
    "no growth": "Without growth",
    "heads off": "Without heads as units",
}

#: What the paper's parts were worth to it: points on M1, M4 and M5 with the part off, less those of
#: the whole (CLIP on CIFAR-10, arXiv 2603.14819, table 7, as quoted in public notes on it). Neither
#: n nor an interval is known. Heads were not switched off there.
PUBLISHED = {
    "no retain": {"M1": 0.22, "M4": -7.0, "M5": -1.0},
    "no mismatch": {"M1": 0.75, "M4": -1.0, "M5": 0.0},
    "no forget": {"M1": 43.5, "M4": -3.0, "M5": -1.0},
    "no selection": {"M1": -1.5, "M4": -11.0, "M5": -4.0},
    "no growth": {"M1": 0.5, "M4": -0.18, "M5": 0.0},
}
#: Points from which on a published figure says a direction; below, it says that nothing moves.
MOVES = 0.5

Key = tuple[str, int]


def table(rows: Sequence[Row]) -> str:
    """The default on top, on every target that a variant was run on, then the variants."""
    default, variants = _default(rows), _variants(rows)
    run = {_key(row) for picked in variants.values() for row in picked}
    base = [default[key] for key in sorted(default.keys() & run)]
    lines = [_line("RAZOR, default", base)] if base else []
    lines += [_line(name, picked) for name, picked in variants.items()]
    headers = ["variant", "targets", *(key.replace("_", " ") for key in SHOWN)]
    return tables.markdown([*headers, "gate: pass", "seconds"], lines)


def remarks(rows: Sequence[Row]) -> list[str]:
    """One sentence per variant: which way M1, M4 and M6 move against the default, paired."""
    default = _default(rows)
    found = []
    for name, picked in _variants(rows).items():
        moves = []
        targets = 0
        for key in REMARKED:
            change = _paired(picked, default, key)
            if change is not None:
                moves.append(f"{key} {_move(change)}")
                targets = max(targets, change.targets)
        if moves:
            words = WORDS.get(name, f'With "{name}"')
            found.append(f"{words}, {', '.join(moves)}; n = {targets} targets.")
    return found


def against_paper(rows: Sequence[Row]) -> str:
    """Part by part whether our figures move as the paper's do; empty without variants of it."""
    default = _default(rows)
    lines = []
    for name, picked in _variants(rows).items():
        for key, published in PUBLISHED.get(name, {}).items():
            ours = _paired(picked, default, key)
            if ours is not None:
                found = tables.signed(ours.value)
                if not math.isnan(ours.low):
                    found += f" ({_interval(ours)})"
                lines.append(
                    [name, key, tables.signed(published, 2), found, _agrees(published, ours)]
                )
    if not lines:
        return ""
    return tables.markdown(["variant", "figure", "paper", "here", "the same way"], lines)


def _agrees(published: float, ours: Estimate) -> str:
    """``yes``, ``no``, or ``not clearly`` where our interval leaves the direction open."""
    # All targets alike have no interval: then nothing moved, or everything by the same amount.
    moves = ours.low > 0 or ours.high < 0 or (math.isnan(ours.low) and abs(ours.value) >= MOVES)
    if abs(published) < MOVES:
        return "yes, neither moves" if not moves or abs(ours.value) < MOVES else "no, ours moves"
    if not moves:
        return "not clearly"
    return "yes" if (ours.value > 0) == (published > 0) else "no"


def _interval(change: Estimate) -> str:
    return f"{tables.number(change.low)} to {tables.number(change.high)}"


def _default(rows: Sequence[Row]) -> dict[Key, Row]:
    """The default's run of each target and seed; the ablation suite's own comes first."""
    found: dict[Key, Row] = {}
    for suite in ("ablation", "clip"):
        for row in figures.chosen(rows, suite, "razor"):
            found.setdefault(_key(row), row)
    return found


def _variants(rows: Sequence[Row]) -> dict[str, list[Row]]:
    names = {str(row.get("variant") or "") for row in rows if row.get("suite") == "ablation"}
    known = [name for name in WORDS if name in names]
    found = [*known, *sorted(names - {""} - set(known))]
    return {name: figures.chosen(rows, "ablation", "razor", name) for name in found}


def _paired(picked: Sequence[Row], default: dict[Key, Row], key: str) -> Estimate | None:
    """Variant minus default over the runs of both."""
    measure = after(key)

    def read(row: Row) -> Reading | None:
        other = default.get(_key(row))
        if other is None:
            return None
        return figures.gap(measure, lambda _: measure(other))(row)

    return figures.mean(figures.by_target(picked, read))


def _move(change: Estimate) -> str:
    if abs(change.value) < 0.05:
        return "stays as it is"
    word = "rises" if change.value > 0 else "falls"
    size = f"{word} by {abs(change.value):.1f} points"
    if math.isnan(change.low):
        return size
    unclear = ", not clearly" if change.low <= 0 <= change.high else ""
    return f"{size} ({_interval(change)}{unclear})"


def _line(name: str, rows: Sequence[Row]) -> list[str]:
    means = (tables.cell(figures.mean_of(rows, after, key)) for key in SHOWN)
    seconds = tables.cell(figures.median(figures.numbers(rows, "seconds")))
    targets = str(len({row["target"] for row in rows}))
    return [name, targets, *means, tables.verdicts(rows), seconds]


def _key(row: Row) -> Key:
    return str(row["target"]), int(row.get("seed") or 0)
