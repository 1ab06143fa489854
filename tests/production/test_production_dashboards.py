"""Dashboards and alerts speak of figures that the code has, with the labels that these have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from compose_files import DOCKER
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from api_schemas.jobs import JobStatus, Outcome
from registry.jobs import Counts
from service import background
from service.metrics import Measures, Reading
from worker.measures import WorkerMeasures

DASHBOARDS = sorted((DOCKER / "grafana/dashboards").glob("*.json"))
ALERTS = yaml.safe_load((DOCKER / "prometheus/alerts.yml").read_text("utf-8"))
#: What Prometheus itself adds to every series, and what it says of every target.
ADDED = {"job", "instance"}
TARGETS = {"up": frozenset(ADDED)}
GPU = {"device": 0, "used": 1, "total": 2}
RUN = {
    "model": "m",
    "verdict": "pass",
    "patch_bytes": 1,
    "peak_memory_bytes": 1,
    "figures": {"M1": (1.0, 0.0)},
}
_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_SERIES = re.compile(rf"({_NAME})\s*(?:\{{([^}}]*)\}})?")
_GROUP = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")
#: Functions and words of the language that stand where a series might.
WORDS = {
    *(
        "sum",
        "min",
        "max",
        "rate",
        "increase",
        "absent",
        "histogram_quantile",
        "and",
        "or",
        "unless",
    ),
    *("by", "on", "bool"),
}


def exposed() -> dict[str, frozenset[str]]:
    """Each series of service and worker, with its labels, after one of everything has happened."""
    counts = Counts(
        by_status=dict.fromkeys(JobStatus, 0),
        by_outcome=dict.fromkeys(Outcome, 0),
        oldest_queued_seconds=0.0,
        expired_leases=0,
        overdue=0,
        unsent_messages=0,
        least_deadline_seconds=1.0,
        least_lease_seconds=None,
    )
    service = Measures(lambda: Reading(jobs=counts, callbacks_waiting=0), 15.0)
    service.request("GET", "/jobs", 200, 0.1)
    service.background_failures.labels("relay").inc()
    worker = WorkerMeasures()
    worker.take({"phase": "edit", "seconds": 1.0, "gpu": GPU})
    worker.take({"ended": "succeeded", "seconds": 1.0, "run": RUN, "gpu": GPU})
    found: dict[str, frozenset[str]] = dict(TARGETS)
    for text in (service.exposition(), generate_latest(worker.registry)):
        for family in text_string_to_metric_families(text.decode()):
            for sample in family.samples:
                found[sample.name] = frozenset(sample.labels) | ADDED
    return found


EXPOSED = exposed()


def faults(expression: str) -> list[str]:
    """Series that nobody exposes, and labels that none of the named series has."""
    groups = {label.strip() for group in _GROUP.findall(expression) for label in group.split(",")}
    found, labels = [], set()
    for name, matchers in _SERIES.findall(_GROUP.sub(" ", re.sub(r"\[[^\]]*\]", "", expression))):
        if name in WORDS or (not matchers and name not in EXPOSED and not _is_series(name)):
            continue
        if name not in EXPOSED:
            found.append(name)
            continue
        labels |= EXPOSED[name]
        wanted = re.findall(rf"({_NAME})\s*(?:=~|!~|!=|=)", matchers)
        found += [f"{name}{{{label}}}" for label in wanted if label not in EXPOSED[name]]
    return found + [f"by {label}" for label in sorted(groups - {""} - labels)]


def _is_series(word: str) -> bool:
    return word.startswith(("razor_", "process_", "python_")) or "_" in word


def expressions() -> Iterator[Any]:
    for group in ALERTS["groups"]:
        for rule in group["rules"]:
            yield pytest.param(rule["expr"], id=rule["alert"])
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text("utf-8"))["panels"]:
            for target in panel["targets"]:
                yield pytest.param(target["expr"], id=f"{path.stem} {panel['id']}{target['refId']}")


@pytest.mark.parametrize("expression", list(expressions()))
def test_expressions_ask_for_what_is_exposed(expression: str) -> None:
    assert faults(expression) == []
    assert expression.count("(") == expression.count(")")


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("razor_jobs_overdu > 0", "razor_jobs_overdu"),
        ('razor_jobs{stat="queued"}', "razor_jobs{stat}"),
        ("sum by (fruit) (rate(razor_http_requests_total[5m]))", "by fruit"),
        ("rate(razor_http_requests[5m])", "razor_http_requests"),
    ],
)
def test_what_nobody_exposes_is_noticed(expression: str, fault: str) -> None:
    assert faults(expression) == [fault]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_whole(path: Any) -> None:
    board = json.loads(path.read_text("utf-8"))
    source = yaml.safe_load(
        (DOCKER / "grafana/provisioning/datasources/prometheus.yml").read_text("utf-8")
    )["datasources"][0]
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 5
    places: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["title"]
        assert panel["datasource"]["uid"] == source["uid"]
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & places, "panels lie side by side"
        assert at["x"] + at["w"] <= 24
        places |= cells


def test_alerts_are_whole() -> None:
    rules = [rule for group in ALERTS["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"].endswith((".", "?"))
        assert re.fullmatch(r"\d+[smhd]", rule.get("for", "1m"))


def test_every_figure_of_trouble_is_watched() -> None:
    """What the service counts of trouble has an alert: a figure nobody looks at warns nobody."""
    watched = " ".join(rule["expr"] for group in ALERTS["groups"] for rule in group["rules"])
    for name in (
        "razor_jobs_overdue",
        "razor_jobs_oldest_queued_seconds",
        "razor_jobs_deadline_remaining_seconds",
        "razor_worker_heartbeat_age_seconds",
        'razor_leases_reaped_total{outcome="dead_lettered"}',
        "razor_gate_verdicts_total",
        'razor_webhook_deliveries_total{outcome="failed"}',
        'razor_webhook_deliveries_total{outcome="dead"}',
        "razor_background_failures_total",
        "razor_registry_up",
        "razor_outbox_unsent",
    ):
        assert name in watched


def test_labels_of_alerts_have_values_that_exist() -> None:
    watched = " ".join(rule["expr"] for group in ALERTS["groups"] for rule in group["rules"])
    loops = set(re.findall(r'loop="(\w+)"', watched))
    assert loops
    assert all(callable(getattr(background, loop)) for loop in loops)
    for status in re.findall(r'status="([a-z]+)"', watched):
        assert status in list(JobStatus)
