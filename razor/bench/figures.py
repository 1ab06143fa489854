"""From rows of runs to figures: one number per target, then mean, interval and worst run.

A row is one run as JSON. Its measurements are ``[value, n, low, high]`` for ``before``, ``after``
and ``change``. Nothing here reads a clock or draws unseeded numbers: the same rows give the same
figures, in whatever order they come.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from razor import statistics

Row = Mapping[str, Any]

#: Variant of a rival with the setting of its paper, where its grid holds a better one.
PUBLISHED = "published"

SEED, RESAMPLES = 0, 2000
DECIMALS = 4
METHODS = (
    "base",
    "razor",
    "slug",
    "ga",
    "ft",
    "gaft",
    "esd-x",
    "esd-u",
    "uce",
    "salun",
    "ssd",
    "gold",
)
RIVALS = METHODS[2:-1]
#: Means and areas of a curve: pooling their pictures into a proportion would be wrong.
NO_PROPORTION = ("M2", "M3", "KID", "CA")


@dataclass(frozen=True)
class Reading:
    """One measured value, ``n`` pictures behind it and its own 95 % interval."""

    value: float
    n: int
    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """A value over several targets with its 95 % interval.

    ``pictures`` are summed over targets, one seed each. ``agreed``: the targets all gave the same
    value, so the interval comes from their pictures and not from a bootstrap over targets.
    """

    value: float
    low: float
    high: float
    targets: int
    pictures: int
    agreed: bool = False


Measure = Callable[[Row], Reading | None]
Moment = Callable[[str], Measure]


def tidy(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows sorted, with four decimals or digits; what is not finite becomes None."""
    rounded = [{str(key): _rounded(value) for key, value in row.items()} for row in rows]
    return sorted(rounded, key=_order)


def chosen(rows: Sequence[Row], suite: str, method: str, variant: str = "") -> list[Row]:
    """The rows of one suite, method and variant that have figures; failed runs have none."""
    return [
        row
        for row in rows
        if row.get("suite") == suite
        and row.get("method") == method
        and (row.get("variant") or "") == variant
        and not row.get("error")
    ]


def failed(rows: Sequence[Row]) -> list[Row]:
    """The runs that ended without a model: whoever leaves them out of a mean has to say so."""
    return [row for row in rows if row.get("error")]


def unknown(rows: Sequence[Row], suite: str) -> list[Row]:
    """The runs that edited nothing: the model did not know their target."""
    return [
        row
        for row in rows
        if row.get("suite") == suite and not row.get("error") and not row.get("metrics")
    ]


def subjects(rows: Sequence[Row], suite: str) -> dict[str, tuple[list[Row], Moment]]:
    """Method -> its rows and the moment that describes it; the base is what others began with.

    The base is read from the rows of one method alone, RAZOR's where there are any, and never from
    the gold rows if others exist: a gold model is measured on fewer retained pictures.
    """
    named = {str(row.get("method")) for row in rows if row.get("suite") == suite}
    found = {name: chosen(rows, suite, name) for name in order(named - {"base"})}
    found = {name: picked for name, picked in found.items() if picked}
    shown: dict[str, tuple[list[Row], Moment]] = {}
    for name in ("razor", *RIVALS, *found):
        if name in found:
            shown["base"] = (found[name], before)
            break
    for method, picked in found.items():
        shown[method] = (picked, after)
    return shown


def order(methods: Iterable[str]) -> list[str]:
    """Methods in the order of every table; unknown ones last, by name."""
    places = {name: place for place, name in enumerate(METHODS)}
    return sorted(methods, key=lambda name: (places.get(name, len(places)), name))


def before(key: str) -> Measure:
    """A metric or an attack on the model as it was."""
    return lambda row: _reading(row, key, "before")


def after(key: str) -> Measure:
    """A metric or an attack on the model as it became."""
    return lambda row: _reading(row, key, "after")


def change(key: str) -> Measure:
    """After minus before, with the interval for paired pictures."""
    return lambda row: _reading(row, key, "change")


def gap(first: Measure, second: Measure) -> Measure:
    """The first minus the second within one run; a single run gives it no interval."""

    def read(row: Row) -> Reading | None:
        a, b = first(row), second(row)
        if a is None or b is None:
            return None
        return Reading(a.value - b.value, min(a.n, b.n), math.nan, math.nan)

    return read


def halfway(first: Measure, second: Measure) -> Measure:
    """The mean of two measures within one run; a single run gives it no interval."""

    def read(row: Row) -> Reading | None:
        a, b = first(row), second(row)
        if a is None or b is None:
            return None
        return Reading((a.value + b.value) / 2, a.n + b.n, math.nan, math.nan)

    return read


def by_target(rows: Sequence[Row], measure: Measure) -> dict[str, Reading]:
    """Target -> mean over its seeds. ``n`` is that of one seed; the interval spans all seeds'."""
    found: dict[str, list[Reading]] = {}
    for row in rows:
        reading = measure(row)
        if reading is not None:
            found.setdefault(str(row["target"]), []).append(reading)
    return {
        target: Reading(
            fmean(one.value for one in readings),
            round(fmean(one.n for one in readings)),
            float(np.min([one.low for one in readings])),
            float(np.max([one.high for one in readings])),
        )
        for target, readings in sorted(found.items())
    }


def mean(values: Mapping[str, Reading], *, proportion: bool = False) -> Estimate | None:
    """The mean over targets with a seeded bootstrap interval over targets; None without any.

    One target alone keeps its own interval. Where all targets agree, a bootstrap has no width: a
    ``proportion`` then takes Wilson's interval over all pictures, anything else the widest of its
    targets' own, which is none for what was measured without one.
    """
    if not values:
        return None
    readings = [values[target] for target in sorted(values)]
    pictures = sum(reading.n for reading in readings)
    if len(readings) == 1:
        only = readings[0]
        return Estimate(only.value, only.low, only.high, 1, pictures)
    array = np.array([reading.value for reading in readings])
    value = float(array.mean())
    if float(np.ptp(array)) == 0.0:
        low, high = _agreed(value, pictures) if proportion else _widest(readings)
        return Estimate(value, low, high, len(array), pictures, agreed=True)
    low, high = statistics.bootstrap_mean(array, SEED, RESAMPLES).interval
    return Estimate(value, low, high, len(array), pictures)


def mean_of(rows: Sequence[Row], moment: Moment, key: str) -> Estimate | None:
    """Mean over targets of one metric before, after, or of its change."""
    proportion = moment is not change and key not in NO_PROPORTION
    return mean(by_target(rows, moment(key)), proportion=proportion)


def difference(first: Mapping[str, Reading], second: Mapping[str, Reading]) -> Estimate | None:
    """Mean over the targets of both of first minus second, bootstrapped over those pairs."""
    pairs = {
        target: Reading(
            first[target].value - second[target].value,
            min(first[target].n, second[target].n),
            math.nan,
            math.nan,
        )
        for target in first.keys() & second.keys()
    }
    return mean(pairs)


def worst(
    rows: Sequence[Row], measure: Measure, *, largest: bool
) -> tuple[Row, Reading] | tuple[None, None]:
    """The run with the largest, or the smallest, value; seeds are not averaged first."""
    found = [(row, reading) for row in rows if (reading := measure(row)) is not None]
    if not found:
        return None, None
    pick = max if largest else min
    return pick(found, key=lambda pair: pair[1].value)


def numbers(rows: Sequence[Row], key: str) -> np.ndarray:  # (n,)
    """A plain number of every row that has it."""
    return np.array([row[key] for row in rows if row.get(key) is not None], dtype=np.float64)


def median(values: np.ndarray) -> Estimate | None:  # (n,)
    """The median over runs with a seeded bootstrap interval; ``targets`` counts the runs."""
    if values.size == 0:
        return None
    low, high = np.quantile(_medians(values, SEED), (0.025, 0.975))
    return Estimate(float(np.median(values)), float(low), float(high), int(values.size), 0)


def median_ratio(top: np.ndarray, bottom: np.ndarray) -> Estimate | None:  # (n,), (m,)
    """The ratio of two medians, each side bootstrapped by itself; None if one is empty or zero."""
    if top.size == 0 or bottom.size == 0 or not np.all(bottom > 0):
        return None
    drawn = _medians(top, SEED) / _medians(bottom, SEED + 1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    value = float(np.median(top) / np.median(bottom))
    return Estimate(value, float(low), float(high), int(top.size), 0)


def changed_percent(rows: Sequence[Row]) -> np.ndarray:  # (n,)
    """The share of all weights that each run changed, in percent."""
    return np.array(
        [100 * row["weights_changed"] / row["weights_total"] for row in rows if _counted(row)]
    )


def _agreed(percent: float, pictures: int) -> tuple[float, float]:
    low, high = statistics.wilson(percent / 100 * pictures, pictures)
    return 100 * low, 100 * high


def _widest(readings: Sequence[Reading]) -> tuple[float, float]:
    lows, highs = [one.low for one in readings], [one.high for one in readings]
    return float(np.min(lows)), float(np.max(highs))


def _counted(row: Row) -> bool:
    return row.get("weights_changed") is not None and bool(row.get("weights_total"))


def _medians(values: np.ndarray, seed: int) -> np.ndarray:  # (resamples,)
    rng = np.random.default_rng(seed)
    drawn: np.ndarray = np.median(
        values[rng.integers(0, values.size, (RESAMPLES, values.size))], axis=1
    )
    return drawn


def _reading(row: Row, key: str, moment: str) -> Reading | None:
    """None as well where no picture was measured: a zero from nothing is no figure."""
    found = (row.get("metrics") or {}).get(key) or (row.get("robustness") or {}).get(key)
    values = found.get(moment) if found else None
    if not values or not values[1] or values[0] is None:
        return None
    value, n, low, high = (math.nan if part is None else part for part in values)
    return Reading(float(value), int(n), float(low), float(high))


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _rounded(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    if isinstance(value, float):
        return _short(value) if math.isfinite(value) else None
    return value


def _short(value: float) -> float:
    """Four decimals, and below one four digits: scores and learning rates may be small."""
    if abs(value) < 1:
        return float(f"{value:.{DECIMALS}g}") + 0.0
    return round(value, DECIMALS)


def _order(row: Row) -> tuple[str, str, str, str, int, int, int, str]:
    return (
        str(row.get("suite", "")),
        str(row.get("method", "")),
        str(row.get("variant") or ""),
        str(row.get("target", "")),
        int(row.get("seed") or 0),
        int(row.get("position") or 0),
        int(row.get("measured_after") or 0),
        json.dumps(row, sort_keys=True, default=str),
    )
