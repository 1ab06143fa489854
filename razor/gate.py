"""The verdict: thresholds against point estimates, and how weak the evidence is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from api_schemas.reports import Gate, GateCheck, Measurement, MetricResult, Verdict
from api_schemas.requests import Thresholds
from api_schemas.shelf import GateThresholds


def merge(shelf: GateThresholds, asked: Thresholds) -> GateThresholds:
    """The request's thresholds where it names them, the shelf's elsewhere."""
    return shelf.model_copy(update=asked.model_dump(exclude_none=True))


def judge(metrics: Sequence[MetricResult], thresholds: GateThresholds) -> Gate:
    """Pass = every check; partial = forgotten, but something else was harmed; fail = not forgotten.

    A check is decided on the point estimate. It is *weak* where it passes although the worse end
    of the 95 % interval does not: then more pictures could still change the answer.
    """
    checks = [
        _checked(rule, metric)
        for rule in _rules(thresholds)
        for metric in metrics
        if metric.id == rule.metric
    ]
    forgotten = all(check.passed for check in checks if check.metric in FORGETTING)
    harmless = all(check.passed for check in checks if check.metric not in FORGETTING)
    verdict = Verdict.FAIL if not forgotten else Verdict.PASS if harmless else Verdict.PARTIAL
    return Gate(verdict=verdict, weak_evidence=any(check.weak for check in checks), checks=checks)


#: The metrics that say whether the target of the request is gone.
FORGETTING = ("M1", "UA", "NR")


@dataclass(frozen=True)
class _Rule:
    metric: str
    rule: str
    threshold: float


def _rules(t: GateThresholds) -> list[_Rule]:
    return [
        _Rule("M1", "after at most", t.forget_accuracy_max),
        _Rule("M4", "falls by at most", t.utility_drop_max),
        _Rule("M5", "after at least", t.stability_min),
        _Rule("M6", "falls by at most", t.neighbour_drop_max),
        _Rule("M7_retain", "falls by at most", t.cross_domain_drop_max),
        _Rule("M1_earlier", "after at most", t.forget_accuracy_max),
        _Rule("UA", "after at least", 100 - t.forget_accuracy_max),
        _Rule("IRA", "falls by at most", t.utility_drop_max),
        _Rule("IRA_near", "falls by at most", t.neighbour_drop_max),
        _Rule("S", "after at least", t.stability_min),
        _Rule("CRA", "falls by at most", t.cross_domain_drop_max),
        _Rule("NR", "after at most", t.forget_accuracy_max),
        _Rule("RNR", "falls by at most", t.utility_drop_max),
        _Rule("RNR_near", "falls by at most", t.neighbour_drop_max),
        _Rule("VQA", "falls by at most", t.cross_domain_drop_max),
        _Rule("NR_earlier", "after at most", t.forget_accuracy_max),
        _Rule("UA_earlier", "after at least", 100 - t.forget_accuracy_max),
    ]


def _checked(rule: _Rule, metric: MetricResult) -> GateCheck:
    if rule.rule == "falls by at most":
        found, worst = -metric.change.value, -metric.change.interval[0]
    elif rule.rule == "after at most":
        found, worst = metric.after.value, metric.after.interval[1]
    else:
        found, worst = _negated(metric.after)
        passed = -found >= rule.threshold
        return _check(rule, -found, passed, passed and -worst < rule.threshold)
    passed = found <= rule.threshold
    return _check(rule, found, passed, passed and worst > rule.threshold)


def _negated(measurement: Measurement) -> tuple[float, float]:
    return -measurement.value, -measurement.interval[0]


def _check(rule: _Rule, found: float, passed: bool, weak: bool) -> GateCheck:
    return GateCheck(
        metric=rule.metric,
        rule=rule.rule,
        threshold=rule.threshold,
        found=found,
        passed=passed,
        weak=weak,
    )
