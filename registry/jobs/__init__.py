"""Jobs: accepted, claimed, kept alive, finished, reaped, listed, counted."""

from __future__ import annotations

from registry.jobs.endings import finish
from registry.jobs.figures import Counts, counts
from registry.jobs.intake import accept, cancel
from registry.jobs.leases import claim, heartbeat
from registry.jobs.pages import page
from registry.jobs.record import Job, get, report
from registry.jobs.recovery import DEAD_LETTERED, Reaped, reap

__all__ = [
    "DEAD_LETTERED",
    "Counts",
    "Job",
    "Reaped",
    "accept",
    "cancel",
    "claim",
    "counts",
    "finish",
    "get",
    "heartbeat",
    "page",
    "reap",
    "report",
]
