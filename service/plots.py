"""Small pictures of figures, as SVG inside a page: numbers and fixed words only, no colours.

Colours come from the page's style sheet by class, so that one picture reads in light and dark.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from api_schemas.judged import Judged
from api_schemas.reports import GateCheck, Measurement, MetricResult

WIDTH: Final = 220
HEIGHT: Final = 60
#: Where the axis begins and ends, and the heights of the two marks and of the axis.
LEFT, RIGHT = 12, WIDTH - 12
BEFORE_Y, AFTER_Y, AXIS_Y = 12, 28, 40
BAR_WIDTH: Final = 160


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from ``low`` to ``high`` on the picture's width; others land on its edge."""

    low: float
    high: float

    def x(self, value: float) -> float:
        """Where the value lies, in the picture's units."""
        share = (value - self.low) / (self.high - self.low)
        return round(LEFT + (RIGHT - LEFT) * min(1.0, max(0.0, share)), 1)


def whiskers(judged: Judged) -> Markup:
    """Before and after with their intervals, and the limit that the gate set, if any."""
    metric, check = judged
    limit = None if check is None else limit_of(metric, check)
    scale = scale_of(metric, limit)
    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        ' role="img">',
        f"<title>{_said(metric, limit)}</title>",
        f'<line class="axis" x1="{LEFT}" y1="{AXIS_Y}" x2="{RIGHT}" y2="{AXIS_Y}"/>',
        *_ticks(scale),
    ]
    if limit is not None:
        x = scale.x(limit)
        parts.append(f'<line class="limit" x1="{x}" y1="2" x2="{x}" y2="{AXIS_Y + 3}"/>')
    parts += [
        *_mark("before", metric.before, BEFORE_Y, scale),
        *_mark("after", metric.after, AFTER_Y, scale),
        "</svg>",
    ]
    # Every part is made of numbers and of words of this file.
    return Markup("".join(parts))


def bar(share: float) -> Markup:
    """A bar as long as the share, from 0 to 1."""
    length = round(BAR_WIDTH * min(1.0, max(0.0, share)), 1)
    return Markup(
        f'<svg class="bar" viewBox="0 0 {BAR_WIDTH} 10" width="{BAR_WIDTH}" height="10"'
        f' aria-hidden="true"><rect class="track" width="{BAR_WIDTH}" height="10" rx="2"/>'
        f'<rect class="after" width="{length}" height="10" rx="2"/></svg>'
    )


def limit_of(metric: MetricResult, check: GateCheck) -> float:
    """The value after the edit at which the check would turn."""
    if check.rule == "falls by at most":
        return metric.before.value - check.threshold
    return check.threshold


def scale_of(metric: MetricResult, limit: float | None) -> Scale:
    """0 to 100 for percentages; else whatever holds both intervals, with a little room."""
    if metric.unit == "percent":
        return Scale(0.0, 100.0)
    ends = [*metric.before.interval, *metric.after.interval, *([] if limit is None else [limit])]
    low, high = min(ends), max(ends)
    room = (high - low) * 0.06 or 1.0
    return Scale(low - room, high + room)


def _ticks(scale: Scale) -> Iterator[str]:
    middle = (scale.low + scale.high) / 2
    for value, anchor in ((scale.low, "start"), (middle, "middle"), (scale.high, "end")):
        x = scale.x(value)
        yield f'<line class="axis" x1="{x}" y1="{AXIS_Y}" x2="{x}" y2="{AXIS_Y + 4}"/>'
        place = {"start": 2, "middle": x, "end": WIDTH - 2}[anchor]
        yield f'<text x="{place}" y="{AXIS_Y + 16}" text-anchor="{anchor}">{short(value)}</text>'


def _mark(name: str, found: Measurement, y: int, scale: Scale) -> Iterator[str]:
    low, high = (scale.x(end) for end in found.interval)
    yield f'<g class="{name}"><line x1="{low}" y1="{y}" x2="{high}" y2="{y}"/>'
    for end in (low, high):
        yield f'<line x1="{end}" y1="{y - 4}" x2="{end}" y2="{y + 4}"/>'
    yield f'<circle cx="{scale.x(found.value)}" cy="{y}" r="4.5"/></g>'


def _said(metric: MetricResult, limit: float | None) -> str:
    words = f"before {short(metric.before.value)}, after {short(metric.after.value)}"
    return words if limit is None else f"{words}, limit {short(limit)}"


def short(value: float) -> str:
    """One digit after the point, none where it is zero; no minus zero."""
    return f"{round(value, 1) + 0.0:.1f}".removesuffix(".0")
