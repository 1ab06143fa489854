"""What a worker tells Prometheus: from the child over a socket to the parent's port."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from api_schemas.reports import Better, GateCheck, Measurement, MetricResult, Report
from cli.stack import worker_environment
from registry.settings import Settings
from tests.worker.conftest import Desk
from worker import telling
from worker.heartbeat import PHASES
from worker.measures import Exporter, exporter_of

ROOT = Path(__file__).parents[2]
SECONDS = 120.0


def read(port: int) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(port: int, name: str, **labels: str) -> float:
    return read(port)[name, frozenset(labels.items())]


def eventually(port: int, wanted: float, name: str, **labels: str) -> None:
    """The socket is quick, but the parent's thread has to come to it."""
    until = time.monotonic() + SECONDS
    while value(port, name, **labels) != wanted:
        assert time.monotonic() < until, (name, labels, value(port, name, **labels))
        time.sleep(0.01)


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    made = Exporter("127.0.0.1", 0)
    yield made
    made.close()
    telling._link = None


def test_everything_known_beforehand_is_there_at_zero(exporter: Exporter) -> None:
    for name, labels in (
        ("razor_worker_wakeups_total", {"result": "dropped"}),
        ("razor_gate_verdicts_total", {"verdict": "partial"}),
        ("razor_job_attempt_duration_seconds_count", {"end": "lost"}),
        ("razor_job_queue_wait_seconds_count", {}),
        *(("razor_job_phase_duration_seconds_count", {"phase": phase}) for phase in PHASES),
    ):
        assert value(exporter.port, name, **labels) == 0


def test_a_dropped_wake_up_is_counted(exporter: Exporter, desk: Desk) -> None:
    desk.work()
    desk.work()
    eventually(exporter.port, 2, "razor_worker_wakeups_total", result="dropped")
    assert value(exporter.port, "razor_worker_wakeups_total", result="claimed") == 0


def test_a_run_is_told_phase_by_phase(exporter: Exporter, desk: Desk) -> None:
    desk.submit("Mara Venn", dry_run=True)
    desk.work()
    port = exporter.port
    eventually(port, 1, "razor_job_attempt_duration_seconds_count", end="succeeded")
    assert value(port, "razor_worker_wakeups_total", result="claimed") == 1
    assert value(port, "razor_job_queue_wait_seconds_count") == 1
    for phase in ("load", "preflight", "score", "evaluate"):
        assert value(port, "razor_job_phase_duration_seconds_count", phase=phase) == 1
    phases = sum(
        value(port, "razor_job_phase_duration_seconds_sum", phase=phase)
        for phase in (*PHASES, telling.OTHER_PHASE)
    )
    whole = value(port, "razor_job_attempt_duration_seconds_sum", end="succeeded")
    assert 0.5 * whole < phases <= whole
    assert value(port, "razor_run_peak_memory_bytes") > 2**20
    # A dry run is not judged and leaves no patch.
    assert value(port, "razor_patch_size_bytes_count") == 0
    assert value(port, "razor_gate_verdicts_total", verdict="pass") == 0
    labels = {value for _, labels in read(port) for _, value in labels}
    assert not any("Mara" in label or "job_" in label for label in labels)


def test_an_attempt_that_fails_will_be_tried_again(
    exporter: Exporter, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("worker.runner._run", fail)
    desk.submit("Mara Venn")
    desk.work()
    eventually(exporter.port, 1, "razor_job_attempt_duration_seconds_count", end="retry")
    assert value(exporter.port, "razor_job_attempt_duration_seconds_count", end="failed") == 0


def measured(value: float) -> Measurement:
    return Measurement(value=value, n=10, interval=(value, value))


def metric(name: str, after: float, better: Better, unit: str = "percent") -> MetricResult:
    return MetricResult(
        id=name,
        name=name,
        definition="",
        unit=unit,
        better=better,
        before=measured(80.0),
        after=measured(after),
        change=measured(after - 80.0),
    )


def test_the_worst_of_several_targets_is_told() -> None:
    found = [
        metric("M1", 2.0, Better.LOWER),
        metric("M1", 7.0, Better.LOWER),
        metric("M4", 90.0, Better.HIGHER),
        metric("M4", 70.0, Better.HIGHER),
        metric("M2", 1.0, Better.LOWER),
        metric("KID", 1.0, Better.LOWER, unit="1000 x MMD^2"),
    ]
    check = GateCheck(metric="", rule="", threshold=0, found=0, passed=True, weak=False)
    names = ["M1", "M1", "M4", "M4", "KID"]
    checks = [check.model_copy(update={"metric": name}) for name in names]
    gate = {"verdict": "pass", "weak_evidence": False, "checks": checks}
    report = Report.model_construct(metrics=found, earlier=[], gate=None)
    assert telling.gated(report) == {}
    report = Report.model_construct(
        metrics=found, earlier=[], gate=type("Gate", (), gate)  # type: ignore[arg-type]
    )  # fmt: skip
    assert telling.gated(report) == {"M1": (0.8, 0.07), "M4": (0.8, 0.7)}


def test_a_judged_run_is_told(exporter: Exporter) -> None:
    """A report of a real run: its verdict, its patch, what was judged."""
    stored = json.loads((ROOT / "tests/service/reports/clip.json").read_text())
    report = Report.model_validate(stored["report"])
    telling.say(ended="succeeded", seconds=1.0, run=telling.of_run(report), gpu=None)
    port = exporter.port
    eventually(port, 1, "razor_job_attempt_duration_seconds_count", end="succeeded")
    assert value(port, "razor_gate_verdicts_total", verdict="pass") == 1
    assert value(port, "razor_patch_size_bytes_sum") == report.patch_bytes
    assert report.gate is not None
    for metric in report.metrics:
        labels = {"model": "reference-clip", "metric": metric.id, "side": "after"}
        place = ("razor_run_figure_ratio", frozenset(labels.items()))
        if metric.id in {check.metric for check in report.gate.checks}:
            assert read(port)[place] == pytest.approx(metric.after.value / 100)
        else:
            assert place not in read(port)


def test_what_is_used_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked only where a run has used it: asking would take a part of it."""
    import torch

    asked = []

    def memory() -> tuple[int, int]:
        asked.append(True)
        return 3, 10

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "mem_get_info", memory)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert telling._gpu() is None
    assert not asked
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert telling._gpu() == {"device": 0, "used": 7, "total": 10}


def test_a_message_that_is_none_does_not_end_the_counting(exporter: Exporter) -> None:
    assert telling._link is not None
    telling._link.send(b"{")
    telling._link.send(b'{"who": 1}')
    telling._link.send(b'{"phase": "load", "seconds": null, "gpu": null}')
    telling.say(child="started")
    eventually(exporter.port, 1, "razor_worker_child_starts_total")


def test_nobody_waits_for_a_parent_that_does_not_listen() -> None:
    ear, mouth = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    telling.through(mouth)
    try:
        started = time.monotonic()
        for _ in range(10_000):
            telling.say(phase="load", seconds=1.0, gpu=None)
        assert time.monotonic() - started < SECONDS
        ear.close()
        telling.say(phase="load", seconds=1.0, gpu=None)
    finally:
        telling._link = None
        mouth.close()


def test_memory_of_the_gpu_is_that_of_the_child_that_lives(exporter: Exporter) -> None:
    gpu = {"device": 0, "used": 5, "total": 9}
    telling.say(phase="load", seconds=1.0, gpu=gpu)
    eventually(exporter.port, 1, "razor_job_phase_duration_seconds_count", phase="load")
    assert value(exporter.port, "razor_gpu_memory_used_bytes", device="0") == 5
    assert value(exporter.port, "razor_gpu_memory_total_bytes", device="0") == 9
    telling.say(child="started")
    eventually(exporter.port, 1, "razor_worker_child_starts_total")
    assert not any(name.startswith("razor_gpu") for name, _ in read(exporter.port))


def test_a_taken_port_is_said_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = Settings(data_folder=tmp_path, worker_metrics_port=port)
        with pytest.raises(SystemExit, match="RAZOR_WORKER_METRICS_PORT"):
            exporter_of(settings)
    assert exporter_of(Settings(data_folder=tmp_path, worker_metrics_port=None)) is None


def test_each_worker_of_a_machine_has_a_port_of_its_own(tmp_path: Path) -> None:
    settings = Settings(data_folder=tmp_path, worker_metrics_port=9100)
    ports = [worker_environment(settings, n)["RAZOR_WORKER_METRICS_PORT"] for n in (1, 2)]
    assert ports == ["9100", "9101"]
    anywhere = Settings(data_folder=tmp_path, worker_metrics_port=None)
    assert "RAZOR_WORKER_METRICS_PORT" not in worker_environment(anywhere, 1)


#: A worker whose child tells of itself but imports no science: its start is what is tested.
PROGRAM = """
import sys, types
from worker import app, telling
sys.modules["worker.runner"] = types.SimpleNamespace(close=lambda: None)
from worker.__main__ import main
main()
"""


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[tuple[psutil.Process, int]]:
    """A real prefork worker, and the port of its figures."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "RAZOR_DATA_FOLDER": str(tmp_path / "data"),
        "RAZOR_WORKER_METRICS_PORT": str(port),
    }
    log = tmp_path / "log"
    with log.open("wb") as sink:
        popen = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, stdout=sink, stderr=sink
        )
    try:
        wait_for(lambda: value(port, "razor_worker_child_starts_total") == 1, log)
        yield psutil.Process(popen.pid), port
    finally:
        popen.kill()
        popen.wait()


def wait_for(true: Callable[[], bool], log: Path | None = None) -> None:
    until = time.monotonic() + SECONDS
    while True:
        with suppress(OSError):
            if true():
                return
        assert time.monotonic() < until, log.read_text() if log is not None else ""
        time.sleep(0.05)


def test_figures_outlive_a_killed_child(worker: tuple[psutil.Process, int]) -> None:
    """The parent serves them, without torch; the next child tells through the same socket."""
    parent, port = worker
    (child,) = parent.children()
    assert not any("libtorch" in region.path for region in parent.memory_maps())
    assert {c.laddr.port for c in parent.net_connections() if c.status == "LISTEN"} == {port}
    assert not [c for c in child.net_connections() if c.status == "LISTEN"]
    os.kill(child.pid, signal.SIGKILL)
    wait_for(lambda: value(port, "razor_worker_child_starts_total") == 2)
    assert parent.is_running()
