"""Which check of the gate belongs to which measurement."""

from __future__ import annotations

from api_schemas.reports import GateCheck, MetricResult, Report

#: A metric and what the gate said of it, None where it has no threshold.
Judged = tuple[MetricResult, GateCheck | None]


def judged(report: Report) -> tuple[list[Judged], list[Judged]]:
    """The metrics of this request's targets, and those of earlier targets, each with its check.

    Checks of one id stand in the order of the metrics they judge, this request's before the
    earlier ones'.
    """
    waiting: dict[str, list[GateCheck]] = {}
    for check in report.gate.checks if report.gate is not None else []:
        waiting.setdefault(check.metric, []).append(check)
    found = [
        (metric, waiting[metric.id].pop(0) if waiting.get(metric.id) else None)
        for metric in (*report.metrics, *(each.metric for each in report.earlier))
    ]
    return found[: len(report.metrics)], found[len(report.metrics) :]
