"""What happened to a job, as its history, its stream and its webhooks tell it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from api_schemas.base import Output
from api_schemas.jobs import JobStatus, Outcome


class EventType(StrEnum):
    """What can happen to a job. After a final state only a retry does."""

    ACCEPTED = "job.accepted"
    APPROVED = "job.approved"
    RUNNING = "job.running"
    PROGRESS = "job.progress"
    REQUEUED = "job.requeued"
    RETRIED = "job.retried"
    CANCELING = "job.canceling"
    SUCCEEDED = "job.succeeded"
    REJECTED = "job.rejected"
    FAILED = "job.failed"
    CANCELED = "job.canceled"


class EventData(Output):
    """Where the job stood right after the event: states and ids only."""

    status: JobStatus
    outcome: Outcome | None
    phase: str
    attempt: int
    error_code: str | None
    patch_id: str | None
    model_version: int | None


class JobEvent(Output):
    """One event. A job's ids are 1, 2, 3, ...: who has seen the last one has missed none."""

    id: int
    type: EventType
    job_id: str
    at: datetime
    data: EventData

    @property
    def is_final(self) -> bool:
        """Whether the job ended so; only that somebody has it run again can follow."""
        return self.data.status.is_final


class EventPage(Output):
    """A part of the history, oldest first; ``next`` is the ``after`` of the following part."""

    items: list[JobEvent]
    next: int | None
