"""A report in print: what was measured before and after, against which threshold.

Targets are numbered as in the request: a report holds no names.
"""

from __future__ import annotations

from collections.abc import Sequence

from api_schemas.judged import Judged, judged
from api_schemas.reports import (
    EarlierResult,
    Estimate,
    GateCheck,
    Measurement,
    MetricResult,
    Report,
)
from cli.console import say, table

FIGURES = ("metric (unit, better)", "before", "after", "n")
HEADERS = (*FIGURES, "threshold", "verdict")
TESTED = "on test pictures, which nothing was tuned on"


def show_report(report: Report) -> None:
    """Target by target what was measured; attacks, earlier targets, the verdict and the cost."""
    metrics, earlier = judged(report)
    for number in range(len(report.preflight)):
        _show_target(report, number, metrics)
    _show_robustness(report)
    _show_earlier(report.earlier, earlier)
    if report.gate is not None:
        weak = ", on weak evidence" if report.gate.weak_evidence else ""
        say(f"verdict: {report.gate.verdict}{weak}")
    if report.estimate is not None:
        _show_estimate(report.estimate)
    for warning in report.warnings:
        say(f"warning: {warning}")
    share = report.weights_changed / max(1, report.weights_total)
    say(
        f"changed {report.weights_changed} of {report.weights_total} weights ({share:.2%}) in "
        f"{len(report.edited)} units; patch {report.patch_bytes} bytes; "
        f"{report.cost.wall_seconds:.1f} s"
    )


def _show_estimate(found: Estimate) -> None:
    """What a dry run foretells of the run itself."""
    say(f"would edit {found.weights} weights in {len(found.units)} units first:")
    for unit in found.units:
        say(f"  {unit}")
    low, high = found.seconds
    say(
        f"would take {low:.1f} to {high:.1f} s, {_range(found.forward_passes)} forward and "
        f"{_range(found.backward_passes)} backward passes, "
        f"{found.peak_memory_bytes / 2**20:.0f} MiB of memory"
    )
    say(f"based on: {found.based_on}")
    if found.leaves_out:
        say(f"not in these figures: the attacks {', '.join(found.leaves_out)}")


def _range(found: tuple[int, int]) -> str:
    low, high = found
    return str(low) if low == high else f"{low} to {high}"


def _show_target(report: Report, number: int, metrics: Sequence[Judged]) -> None:
    known = report.preflight[number]
    name = _target(number, len(report.preflight))
    say(
        f"{name}before the edit the model knew the target: {_yes(known.known)} "
        f"(accuracy {_interval(known.accuracy)}, chance {known.chance:.1f})"
    )
    own = [(metric, check) for metric, check in metrics if metric.target == number]
    if own:
        rows = [(*_figures(metric), *_verdict(check)) for metric, check in own]
        table(HEADERS, rows, title=f"{name}{TESTED}")


def _show_robustness(report: Report) -> None:
    for number in range(len(report.preflight)):
        rows = [_figures(metric) for metric in report.robustness if metric.target == number]
        if rows:
            name = _target(number, len(report.preflight))
            table(FIGURES, rows, title=f"{name}attacks: can what was erased be brought back?")


def _show_earlier(earlier: Sequence[EarlierResult], metrics: Sequence[Judged]) -> None:
    rows = []
    for each, (metric, check) in zip(earlier, metrics, strict=True):
        version = "this request" if each.version is None else f"version {each.version}"
        place = (version, str(metric.target + 1))
        rows.append((*place, *_figures(metric), *_verdict(check)))
    if rows:
        title = "targets of earlier versions: they must not come back"
        table(("forgotten by", "target", *HEADERS), rows, title=title)


def _target(number: int, count: int) -> str:
    return f"target {number + 1} of {count}: " if count > 1 else ""


def _figures(metric: MetricResult) -> tuple[str, ...]:
    unit = "%" if metric.unit == "percent" else metric.unit
    name = f"{metric.id} {metric.name} ({unit}, {metric.better})"
    return name, _interval(metric.before), _interval(metric.after), str(metric.after.n)


def _verdict(check: GateCheck | None) -> tuple[str, str]:
    if check is None:
        return "-", "-"
    verdict = f"{'pass' if check.passed else 'FAIL'} with {_rounded(check.found)}"
    return f"{check.rule} {check.threshold:g}", f"{verdict}, weak" if check.weak else verdict


def _interval(found: Measurement) -> str:
    low, high = found.interval
    return f"{_rounded(found.value)} [{_rounded(low)}, {_rounded(high)}]"


def _rounded(value: float) -> str:
    # Adding zero turns the minus zero of a rounded -0.04 into a plain one.
    return f"{round(value, 1) + 0.0:.1f}"


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"
