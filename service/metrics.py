"""What Prometheus reads: requests as they happen, and figures of the registry when asked.

No label has a value that a caller chooses: routes are templates, methods and statuses are few.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from api_schemas.jobs import JobStatus, Outcome
from api_schemas.patches import FORMAT_VERSION
from api_schemas.release import version as version
from registry.jobs import Counts
from service import logs

logger = logging.getLogger("razor.metrics")

# A second series per counter that says when it was born: nothing here asks for it.
disable_created_metrics()  # type: ignore[no-untyped-call]

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: What becomes of a job whose lease has expired: the fields of ``registry.jobs.Reaped``.
REAPED = ("requeued", "dead_lettered", "canceled")
#: Long polls last up to a minute; a submission decodes pictures for seconds.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


#: What can come of an attempt to deliver: the receiver has it; it is tried again; it never is.
DELIVERED, FAILED, DEAD = "delivered", "failed", "dead"


@dataclass(frozen=True, slots=True)
class Reading:
    """What the database has at one moment."""

    jobs: Counts
    callbacks_waiting: int


class RegistryFigures(Collector):
    """Jobs, leases and messages as the database has them at the moment of the scrape.

    ``razor_registry_up`` is 0, and the other figures are absent, while it does not answer.
    """

    def __init__(self, read: Callable[[], Reading], lease_seconds: float) -> None:
        self._read = read
        self._lease_seconds = lease_seconds

    def collect(self) -> Iterator[Metric]:
        """One reading."""
        try:
            reading = self._read()
        except Exception as exc:  # A scrape must answer while the database is down.
            logger.warning("no figures from the registry", extra={"error": logs.describe(exc)})
            yield _gauge("razor_registry_up", "Whether the database answered.", 0)
            return
        counts = reading.jobs
        yield _gauge("razor_registry_up", "Whether the database answered.", 1)
        yield _labelled("razor_jobs", "Jobs by status.", "status", JobStatus, counts.by_status)
        yield _labelled(
            "razor_jobs_finished",
            "Finished jobs by outcome.",
            "outcome",
            Outcome,
            counts.by_outcome,
        )
        yield _gauge(
            "razor_jobs_oldest_queued_seconds",
            "How long the oldest queued job has been waiting.",
            counts.oldest_queued_seconds,
        )
        yield _gauge("razor_jobs_overdue", "Unfinished jobs past their deadline.", counts.overdue)
        yield _gauge(
            "razor_leases_expired", "Running jobs whose worker fell silent.", counts.expired_leases
        )
        yield _gauge(
            "razor_outbox_unsent", "Wake-ups that wait for the broker.", counts.unsent_messages
        )
        yield _gauge(
            "razor_opendsr_callbacks_waiting",
            "Addresses that have yet to be told what became of an OpenDSR request.",
            reading.callbacks_waiting,
        )
        if counts.least_deadline_seconds is not None:
            yield _gauge(
                "razor_jobs_deadline_remaining_seconds",
                "Time left to the nearest deadline of an unfinished job; below zero once passed.",
                counts.least_deadline_seconds,
            )
        yield _gauge(
            "razor_worker_heartbeat_age_seconds",
            "Age of the oldest last sign of life of a worker with a job, 0 while none has one.",
            self._heartbeat_age_seconds(counts.least_lease_seconds),
        )

    def _heartbeat_age_seconds(self, least_lease_seconds: float | None) -> float:
        """A heartbeat makes the lease whole again, so what is gone of it is the silence since."""
        if least_lease_seconds is None:
            return 0.0
        return max(0.0, self._lease_seconds - least_lease_seconds)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _labelled(
    name: str,
    text: str,
    label: str,
    every: Iterable[StrEnum],
    values: Mapping[Any, int],
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for member in every:
        # Every value is there from the start, 0 included, so that rates and alerts have a base.
        family.add_metric([member.value], values.get(member, 0))
    return family


class Measures:
    """The figures of one front, in a registry of its own: two fronts in a process do not clash."""

    def __init__(self, read: Callable[[], Reading], lease_seconds: float) -> None:
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._registry.register(RegistryFigures(read, lease_seconds))
        Info("razor_build", "What runs here.", registry=self._registry).info(
            {"version": version(), "patch_format": str(FORMAT_VERSION)}
        )
        self._requests = Counter(
            "razor_http_requests",
            "Requests answered.",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "razor_http_request_duration_seconds",
            "Time from the first byte of the request's head to the last of the response.",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self.published = Counter(
            "razor_outbox_published", "Wake-ups given to the broker.", registry=self._registry
        )
        self.resent = Counter(
            "razor_outbox_resent",
            "Wake-ups made again for jobs that nobody came for.",
            registry=self._registry,
        )
        self.reaped = Counter(
            "razor_leases_reaped",
            "Jobs taken from workers that fell silent, by what became of them.",
            ["outcome"],
            registry=self._registry,
        )
        for outcome in REAPED:
            self.reaped.labels(outcome)
        self.background_failures = Counter(
            "razor_background_failures",
            "Rounds of a background loop that failed.",
            ["loop"],
            registry=self._registry,
        )
        self.webhook_deliveries = Counter(
            "razor_webhook_deliveries",
            "Attempts to deliver a webhook message, by what came of them.",
            ["outcome"],
            registry=self._registry,
        )
        self.callbacks = Counter(
            "razor_opendsr_callbacks",
            "Attempts to tell an address of an OpenDSR request, by what came of them.",
            ["outcome"],
            registry=self._registry,
        )
        for outcome in (DELIVERED, FAILED, DEAD):
            self.webhook_deliveries.labels(outcome)
            self.callbacks.labels(outcome)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request. ``route`` is a template, never a path."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)
