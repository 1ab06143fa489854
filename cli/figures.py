"""A report in print: what was measured before and after, against which threshold."""

from __future__ import annotations

from api_schemas.reports import GateCheck, Measurement, MetricResult, Report
from cli.console import say, table

HEADERS = ("metric (unit, better)", "before", "after", "n", "threshold", "verdict")


def show_report(report: Report) -> None:
    """The table of metrics, the verdict, the warnings and what the run cost."""
    known = report.preflight
    say(
        f"before the edit the model knew the target: {_yes(known.known)} "
        f"(accuracy {_interval(known.accuracy)}, chance {known.chance:.1f})"
    )
    if report.metrics:
        rows = [row for metric in report.metrics for row in _rows(metric, report)]
        table(HEADERS, rows, title="on test pictures, which nothing was tuned on")
    if report.gate is not None:
        weak = ", on weak evidence" if report.gate.weak_evidence else ""
        say(f"verdict: {report.gate.verdict}{weak}")
    for warning in report.warnings:
        say(f"warning: {warning}")
    share = report.weights_changed / max(1, report.weights_total)
    say(
        f"changed {report.weights_changed} of {report.weights_total} weights ({share:.2%}) in "
        f"{len(report.edited)} units; patch {report.patch_bytes} bytes; "
        f"{report.cost.wall_seconds:.1f} s"
    )


def _rows(metric: MetricResult, report: Report) -> list[tuple[str, ...]]:
    checks: list[GateCheck | None] = []
    if report.gate is not None:
        checks += [check for check in report.gate.checks if check.metric == metric.id]
    unit = "%" if metric.unit == "percent" else metric.unit
    name = f"{metric.id} {metric.name} ({unit}, {metric.better})"
    figures = (name, _interval(metric.before), _interval(metric.after), str(metric.after.n))
    return [(*figures, *_judged(check)) for check in checks or [None]]


def _judged(check: GateCheck | None) -> tuple[str, str]:
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
