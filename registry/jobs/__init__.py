"""Jobs: accepted, approved, claimed, kept alive, finished, reaped, listed, counted."""

from __future__ import annotations

from registry.jobs.approval import approve, decline
from registry.jobs.endings import draft, finish
from registry.jobs.extensions import extend
from registry.jobs.figures import Counts, counts
from registry.jobs.intake import accept, cancel
from registry.jobs.leases import claim, heartbeat
from registry.jobs.pages import page
from registry.jobs.record import Job, get, report
from registry.jobs.recovery import DEAD_LETTERED, Reaped, reap
from registry.jobs.retries import give_back, retry
from registry.jobs.standing import Standing, standings

__all__ = [
    "DEAD_LETTERED",
    "Counts",
    "Job",
    "Reaped",
    "Standing",
    "accept",
    "approve",
    "cancel",
    "claim",
    "counts",
    "decline",
    "draft",
    "extend",
    "finish",
    "get",
    "give_back",
    "heartbeat",
    "page",
    "reap",
    "report",
    "retry",
    "standings",
]
