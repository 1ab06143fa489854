"""How far to step: a search by bisection that always honours the retain tolerance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from razor.protocols import Gauge, Reading


@dataclass(frozen=True)
class Found:
    """The step that was settled on, and what the gauge read there."""

    step: float
    reading: Reading


def largest_stable_step(
    put: Callable[[float], None],
    gauge: Gauge,
    start: Found,
    limit: float,
    tolerance: float,
    evaluations: int,
    risk: float,
) -> Found:
    """The step in (0, limit] that leaves least to forget among those that harm little enough.

    A step that harms more than ``tolerance`` is too large; one that forgets is large enough, so
    the smallest such step is wanted. Bisection keeps the two apart. Every step tried is a
    candidate, and standing still (``start``) is one too: the result is never worse than that.
    ``put`` writes a step into the model. How much a step that harms has forgotten is not read.
    """
    best = start
    low, high, step = 0.0, limit, limit
    for _ in range(evaluations):
        put(step)
        harm = gauge.harm()
        too_far = harm > tolerance
        if not too_far:
            found = Found(step, replace(gauge.read(harm=False), harm=harm))
            best = found if _better(found, best, risk) else best
            too_far = found.reading.remains(risk) <= 0
        if too_far:
            high = step
        else:
            low = step
        if low >= limit:
            break
        step = (low + high) / 2
    return best


def _better(new: Found, best: Found, risk: float) -> bool:
    left, best_left = new.reading.remains(risk), best.reading.remains(risk)
    if left <= 0 and best_left <= 0:
        return new.step < best.step
    return left < best_left
