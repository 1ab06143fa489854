"""What the comparison has to show, judged by computation: figures to reach, and who dominates whom.

A goal is reached by what was found, never by what is missing. ``yes, weak`` means that the point
estimate reaches it and the worse end of its interval does not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from razor.bench import figures
from razor.bench.figures import Estimate, Measure, Row, after, change

#: Metric -> whether more is better. The four figures of forgetting and keeping.
COMPARED: Mapping[str, bool] = {"M1": False, "M4": True, "M5": True, "M6": True}
TIE = 1e-9  # points; what floating-point sums differ by


@dataclass(frozen=True)
class Goal:
    """One figure with its bound. ``upper``: at most the bound; else at least."""

    figure: str
    bound: float
    upper: bool
    found: Estimate | None
    unit: str = ""
    absolute: bool = False
    note: str = ""
    failed: int = 0  # runs that the figure says nothing about

    @property
    def wanted(self) -> str:
        """The bound in words."""
        text = f"at {'most' if self.upper else 'least'} {self.bound:g}{self.unit}"
        return f"{text} either way" if self.absolute else text

    @property
    def reached(self) -> str:
        """``yes``, ``yes, weak``, ``no`` or ``not measured``.

        Neither not-a-number nor a mean that leaves failed runs out reaches anything.
        """
        if self.found is None or math.isnan(self.found.value):
            return "not measured"
        if self.failed:
            return f"no, failed runs: {self.failed}"
        if not self._holds(self.found.value):
            return "no"
        firm = self._holds(self.found.low) and self._holds(self.found.high)
        return "yes" if firm else "yes, weak"

    def _holds(self, value: float) -> bool:
        size = abs(value) if self.absolute else value
        return size <= self.bound if self.upper else size >= self.bound


def goals(rows: Sequence[Row]) -> list[Goal]:
    """Every figure to reach, measured or not; none is reached if a RAZOR run failed."""
    broken = [
        row
        for row in figures.failed(rows)
        if row.get("suite") == "clip" and row.get("method") == "razor"
    ]
    return [replace(goal, failed=len(broken)) for goal in _goals(rows)]


def _goals(rows: Sequence[Row]) -> list[Goal]:
    razor = figures.chosen(rows, "clip", "razor")
    gold = figures.chosen(rows, "clip", "gold")
    return [
        *_forgetting_and_keeping(razor),
        Goal(
            "M3, mean RAZOR minus mean gold",
            10,
            True,
            _distance(razor, gold, after("M3")),
            absolute=True,
        ),
        *_rounded(razor),
        *_relearned(razor, gold),
        _share(razor),
        *_time(rows, razor),
    ]


def _time(rows: Sequence[Row], razor: Sequence[Row]) -> Iterator[Goal]:
    """Against SLUG as tuned, and where that is another setting, as published."""
    for name, variant in (("SLUG", ""), ("SLUG as published", figures.PUBLISHED)):
        slug = figures.chosen(rows, "clip", "slug", variant)
        if variant and not slug:
            continue
        seconds = figures.numbers(razor, "seconds"), figures.numbers(slug, "seconds")
        ratio = figures.median_ratio(*seconds)
        yield Goal(f"seconds, median RAZOR / median {name}", 2, True, ratio, unit="x")


def _forgetting_and_keeping(razor: Sequence[Row]) -> Iterator[Goal]:
    yield Goal("M1, mean", 2, True, figures.mean_of(razor, after, "M1"))
    yield _worst("M1, worst run", 10, razor, after("M1"), upper=True)
    yield Goal("M4, mean change", -1, False, figures.mean_of(razor, change, "M4"))
    yield _worst("M4, worst change of a run", -3, razor, change("M4"), upper=False)
    yield Goal("M5, mean", 97, False, figures.mean_of(razor, after, "M5"))
    yield Goal("M6, mean change", -4, False, figures.mean_of(razor, change, "M6"))
    for key in ("M7_retain", "M7_target"):
        name = key.replace("_", " ")
        yield Goal(f"{name}, mean change", -1, False, figures.mean_of(razor, change, key))


def _rounded(razor: Sequence[Row]) -> Iterator[Goal]:
    """Against the same edited model before rounding."""
    for bits, rise, fall in ((8, 1, 1), (4, 2, 3)):
        m1 = figures.gap(after(f"M1_int{bits}"), after("M1"))
        m5 = figures.gap(after("M5"), after(f"M5_int{bits}"))
        for name, bound, measure in (
            (f"int{bits}: M1 rises by", rise, m1),
            (f"int{bits}: M5 falls by", fall, m5),
        ):
            yield Goal(name, bound, True, figures.mean(figures.by_target(razor, measure)))


def relearn_steps(rows: Sequence[Row]) -> list[int]:
    """The numbers of steps that any row was taught the target again for."""
    keys = {key for row in rows for key in (row.get("robustness") or {})}
    matches = (re.fullmatch(r"M1_relearn(\d+)", key) for key in keys)
    return sorted(int(match[1]) for match in matches if match)


def _relearned(razor: Sequence[Row], gold: Sequence[Row]) -> Iterator[Goal]:
    for steps in relearn_steps([*razor, *gold]) or [0]:
        found = _distance(razor, gold, after(f"M1_relearn{steps}")) if steps else None
        words = f"{steps} steps" if steps else "any steps"
        yield Goal(f"M1 after {words} of relearning, RAZOR minus gold", 10, True, found)


def _distance(razor: Sequence[Row], gold: Sequence[Row], measure: Measure) -> Estimate | None:
    return figures.difference(figures.by_target(razor, measure), figures.by_target(gold, measure))


def _share(razor: Sequence[Row]) -> Goal:
    shares = figures.changed_percent(razor)
    found = None
    if shares.size:
        largest = float(shares.max())
        found = Estimate(largest, largest, largest, int(shares.size), 0)
    return Goal("weights changed, largest share of a run", 8, True, found, unit=" %")


def _worst(name: str, bound: float, rows: Sequence[Row], measure: Measure, *, upper: bool) -> Goal:
    row, reading = figures.worst(rows, measure, largest=upper)
    if row is None or reading is None:
        return Goal(name, bound, upper, None)
    found = Estimate(reading.value, reading.low, reading.high, 1, reading.n)
    return Goal(name, bound, upper, found, note=f"{row['target']}, seed {row.get('seed', 0)}")


@dataclass(frozen=True)
class Duel:
    """A rival against RAZOR on the targets of both; ``lead`` > 0: the rival is the better one."""

    rival: str
    lead: Mapping[str, Estimate]
    compared: tuple[str, ...] = tuple(COMPARED)

    @property
    def complete(self) -> bool:
        """Whether all the figures are known of both."""
        return set(self.lead) == set(self.compared)

    def against_rival(self) -> list[str]:
        """The figures on which RAZOR is better, which keep the rival from dominating it."""
        return [key for key, lead in self.lead.items() if lead.value < -TIE]

    def against_razor(self) -> list[str]:
        """The figures on which the rival is better."""
        return [key for key, lead in self.lead.items() if lead.value > TIE]

    @property
    def rival_dominates(self) -> bool:
        """At least as good on all means and better on one."""
        return self.complete and not self.against_rival() and bool(self.against_razor())

    @property
    def razor_dominates(self) -> bool:
        """The same the other way round."""
        return self.complete and not self.against_razor() and bool(self.against_rival())


def duels(
    rows: Sequence[Row], suite: str = "clip", compared: Mapping[str, bool] = COMPARED
) -> list[Duel]:
    """One for each rival that was run on a target RAZOR was run on."""
    razor = figures.chosen(rows, suite, "razor")
    found = []
    for rival in figures.RIVALS:
        other = figures.chosen(rows, suite, rival)
        lead = {}
        for key, higher in compared.items():
            sides = figures.by_target(other, after(key)), figures.by_target(razor, after(key))
            estimate = figures.difference(*(sides if higher else sides[::-1]))
            if estimate is not None:
                lead[key] = estimate
        if lead:
            found.append(Duel(rival, lead, tuple(compared)))
    return found
