"""A worker's figures, served by the parent process: without torch, and alive when the child dies.

No label has a value that a caller chooses: models are those that an operator put on the shelf.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Mapping
from typing import Any, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)

from api_schemas.jobs import FINAL
from api_schemas.patches import FORMAT_VERSION
from api_schemas.release import version
from api_schemas.reports import Verdict
from registry.settings import Settings
from worker import telling
from worker.heartbeat import PHASES

log = logging.getLogger(__name__)

# A second series per counter that says when it was born: nothing here asks for it.
disable_created_metrics()  # type: ignore[no-untyped-call]

_SECOND_BUCKETS: Final = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 10800)
#: A queue may hold a job for days.
_WAIT_BUCKETS: Final = (0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 86400, 7 * 86400)
_BYTE_BUCKETS: Final = tuple(4**power * 1024 for power in range(13))
_MESSAGE_BYTES: Final = 65536


class WorkerMeasures:
    """The figures of one worker, in a registry of its own, moved on by the child's messages."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        own: Any = {"registry": self.registry}
        Info("razor_build", "What runs here.", **own).info(
            {"version": version(), "patch_format": str(FORMAT_VERSION)}
        )
        self._children = Counter(
            "razor_worker_child_starts", "Children that began; a first one, then one per death.",
            **own,
        )  # fmt: skip
        self._wakeups = Counter(
            "razor_worker_wakeups",
            "Wake-ups by what came of them: claimed a job, or dropped for none was left.",
            ["result"],
            **own,
        )
        self._waited = Histogram(
            "razor_job_queue_wait_seconds",
            "From a job's acceptance to its first claim.",
            buckets=_WAIT_BUCKETS,
            **own,
        )
        self._phases = Histogram(
            "razor_job_phase_duration_seconds",
            "Time that attempts spent in each phase.",
            ["phase"],
            buckets=_SECOND_BUCKETS,
            **own,
        )
        self._attempts = Histogram(
            "razor_job_attempt_duration_seconds",
            "From a claim to the end of that attempt, by how it ended.",
            ["end"],
            buckets=_SECOND_BUCKETS,
            **own,
        )
        self._verdicts = Counter(
            "razor_gate_verdicts", "Runs that the gate judged, by verdict.", ["verdict"], **own
        )
        self._figures = Gauge(
            "razor_run_figure_ratio",
            "A judged metric of the last run on a model; of several targets' the worst.",
            ["model", "metric", "side"],
            **own,
        )
        self._patch_bytes = Histogram(
            "razor_patch_size_bytes", "Sizes of the patches made.", buckets=_BYTE_BUCKETS, **own
        )
        self._peak = Gauge(
            "razor_run_peak_memory_bytes", "Largest memory of the last run, host and GPU.", **own
        )
        self._gpu_used = Gauge(
            "razor_gpu_memory_used_bytes",
            "GPU memory in use by anybody, at the last change of phase.",
            ["device"],
            **own,
        )
        self._gpu_total = Gauge(
            "razor_gpu_memory_total_bytes", "GPU memory there is.", ["device"], **own
        )
        self._begin_at_zero()

    def take(self, message: Mapping[str, Any]) -> None:
        """Count one message of the child's."""
        match message:
            case {"child": "started"}:
                self._children.inc()
                # The memory of a child that is gone is free again.
                self._gpu_used.clear()
                self._gpu_total.clear()
            case {"woken": str(result), "waited_seconds": waited}:
                self._wakeups.labels(result).inc()
                if waited is not None:
                    self._waited.observe(max(0.0, waited))
            case {"phase": str(phase), "seconds": seconds, "gpu": gpu}:
                self._phases.labels(phase).observe(seconds)
                self._take_gpu(gpu)
            case {"ended": str(end), "seconds": seconds, "run": run, "gpu": gpu}:
                self._attempts.labels(end).observe(seconds)
                self._take_gpu(gpu)
                if run is not None:
                    self._take_run(run)
            case _:
                log.warning("a message of the child's was not understood")

    def _take_run(self, run: Mapping[str, Any]) -> None:
        if run["verdict"] is not None:
            self._verdicts.labels(run["verdict"]).inc()
        if run["patch_bytes"] is not None:
            self._patch_bytes.observe(run["patch_bytes"])
        self._peak.set(run["peak_memory_bytes"])
        for metric, sides in run["figures"].items():
            for side, ratio in zip(("before", "after"), sides, strict=True):
                self._figures.labels(run["model"], metric, side).set(ratio)

    def _take_gpu(self, gpu: Mapping[str, int] | None) -> None:
        if gpu is not None:
            device = str(gpu["device"])
            self._gpu_used.labels(device).set(gpu["used"])
            self._gpu_total.labels(device).set(gpu["total"])

    def _begin_at_zero(self) -> None:
        """Every label that is known beforehand is there at once, so that rates have a base."""
        for result in ("claimed", "dropped"):
            self._wakeups.labels(result)
        for phase in (*PHASES, telling.OTHER_PHASE):
            self._phases.labels(phase)
        for end in (*sorted(FINAL), telling.RETRY, telling.LOST):
            self._attempts.labels(end)
        for verdict in Verdict:
            self._verdicts.labels(verdict.value)


class Exporter:
    """The parent's side: listens to the child, and answers Prometheus at ``address``."""

    def __init__(self, host: str, port: int) -> None:
        self.measures = WorkerMeasures()
        # Raises OSError where the port is taken, before anything else is made.
        self._server, _ = start_http_server(port, addr=host, registry=self.measures.registry)
        self._ear, self._mouth = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        telling.through(self._mouth)
        self._thread = threading.Thread(target=self._listen, name="figures", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it answers; the system's choice where 0 was asked for."""
        return int(self._server.server_port)

    def leave_to_parent(self) -> None:
        """In a child, after the fork: the port is the parent's alone, also when it restarts."""
        self._server.socket.close()
        self._ear.close()

    def close(self) -> None:
        """Answers and listens no more."""
        self._server.shutdown()
        self._server.server_close()
        self._mouth.send(b"")
        self._thread.join()
        self._ear.close()
        self._mouth.close()

    def _listen(self) -> None:
        while data := self._ear.recv(_MESSAGE_BYTES):
            try:
                self.measures.take(json.loads(data))
            except Exception:  # One bad message must not end the counting of all others.
                log.exception("a message of the child's could not be counted")


def exporter_of(settings: Settings) -> Exporter | None:
    """Serves this worker's figures where the settings name a port for them.

    Raises ``SystemExit``, with what to do next, when the port is taken.
    """
    port = settings.worker_metrics_port
    if port is None:
        return None
    try:
        exporter = Exporter(settings.host, port)
    except OSError as error:
        raise SystemExit(
            f"cannot listen on {settings.host}:{port} ({error.strerror}); set "
            "RAZOR_WORKER_METRICS_PORT to another port, or to 0 for any"
        ) from error
    log.info("figures at http://%s:%d", settings.host, exporter.port)
    return exporter
