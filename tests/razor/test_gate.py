"""The verdict."""

from __future__ import annotations

import pytest

from api_schemas.reports import Better, Measurement, MetricResult, Verdict
from api_schemas.requests import Thresholds
from api_schemas.shelf import GateThresholds
from razor import gate


def metric(name: str, before: float, after: float, half: float = 0.0) -> MetricResult:
    def at(value: float) -> Measurement:
        return Measurement(value=value, n=100, interval=(value - half, value + half))

    return MetricResult(
        id=name,
        name=name,
        definition="",
        unit="percent",
        better=Better.LOWER,
        before=at(before),
        after=at(after),
        change=at(after - before),
    )


def figures(m1: float = 0, m4: float = 98, m5: float = 99, half: float = 0) -> list[MetricResult]:
    return [
        metric("M1", 100, m1, half),
        metric("M4", 98, m4, half),
        metric("M5", 100, m5, half),
        metric("M6", 98, 98, half),
        metric("M7_retain", 90, 90, half),
    ]


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (figures(), Verdict.PASS),
        (figures(m1=5), Verdict.PASS),
        (figures(m1=5.1), Verdict.FAIL),
        (figures(m4=95.9), Verdict.PARTIAL),
        (figures(m5=80), Verdict.PARTIAL),
        (figures(m1=50, m4=50), Verdict.FAIL),
    ],
)
def test_verdicts(found: list[MetricResult], verdict: Verdict) -> None:
    assert gate.judge(found, GateThresholds()).verdict is verdict


def test_a_wide_interval_passes_as_weak_evidence() -> None:
    firm, weak = (gate.judge(figures(half=half), GateThresholds()) for half in (0.5, 40.0))
    assert firm.verdict is weak.verdict is Verdict.PASS
    assert not firm.weak_evidence
    assert weak.weak_evidence


def test_the_request_overrides_the_shelf_where_it_speaks() -> None:
    merged = gate.merge(GateThresholds(), Thresholds(forget_accuracy_max=50))
    assert merged.forget_accuracy_max == 50
    assert merged.utility_drop_max == GateThresholds().utility_drop_max
    assert gate.judge(figures(m1=50), merged).verdict is Verdict.PASS


def test_a_missing_metric_is_not_a_pass_of_another() -> None:
    checks = gate.judge(figures()[:2], GateThresholds()).checks
    assert [check.metric for check in checks] == ["M1", "M4"]


@pytest.mark.parametrize(
    ("gone", "kept", "verdict"),
    [
        (95, 94, Verdict.PASS),
        (94, 94, Verdict.FAIL),
        (100, 90, Verdict.PARTIAL),
    ],
)
def test_a_generator_is_judged_by_what_it_paints(
    gone: float, kept: float, verdict: Verdict
) -> None:
    found = [metric("UA", 0, gone), metric("IRA", 95, kept), metric("CRA", 95, 95)]
    assert gate.judge(found, GateThresholds()).verdict is verdict
