"""A job as its requester sees it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from api_schemas.base import Output
from api_schemas.decisions import ApprovalView
from api_schemas.reasons import ExtensionReason
from api_schemas.reports import Verdict


class JobStatus(StrEnum):
    """Where a job stands. The moves between them are in ``registry.transitions``."""

    AWAITING_APPROVAL = "awaiting_approval"
    QUEUED = "queued"
    RUNNING = "running"
    CANCELING = "canceling"
    SUCCEEDED = "succeeded"
    REJECTED = "rejected"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen by itself; somebody may still ask for a retry."""
        return self in FINAL


FINAL = frozenset({JobStatus.SUCCEEDED, JobStatus.REJECTED, JobStatus.FAILED, JobStatus.CANCELED})


class Outcome(StrEnum):
    """What a finished job came to."""

    PATCHED = "patched"
    NOTHING_TO_FORGET = "nothing_to_forget"
    DRY_RUN = "dry_run"
    GATE_REFUSED = "gate_refused"
    ERROR = "error"
    CANCELED = "canceled"
    DECLINED = "declined"


class Progress(Output):
    """How far a job is. ``fraction`` runs from 0 to 1 and never falls within one attempt."""

    phase: str
    fraction: float
    eta_seconds: float | None


class JobError(Output):
    """Why a job failed: a stable code, and a sentence that says what to do next."""

    code: str
    message: str
    retryable: bool


class JobResult(Output):
    """What a finished job left behind.

    ``revoked_at``: since when its version is no part of the model's line any more. ``rerun`` is
    the job that makes it anew, where there is one.
    """

    verdict: Verdict | None
    patch_id: str | None
    model_version: int | None
    revoked_at: datetime | None
    rerun: str | None


class JobUrls(Output):
    """Where to go on from here; paths relative to the service's root.

    ``evidence`` is there for a patch that was published as a version of its model.
    """

    self: str
    cancel: str
    events: str
    retry: str
    evaluation: str
    report: str
    patch: str | None
    patch_file: str | None
    weights: str | None
    evidence: str | None


class JobView(Output):
    """One job. It never carries the target's name or pictures.

    ``extended_from`` is the deadline before it was put off. ``retries`` is how often it was asked
    to run again after an end, ``attempts`` how often it was begun since then. ``rerun_of`` is the
    job whose revoked version this one makes anew.
    """

    id: str
    status: JobStatus
    outcome: Outcome | None
    model: str
    method: str
    priority: int
    regulation: str
    subject_request_id: str | None
    dry_run: bool
    metadata: dict[str, str] = Field(description="Deleted with the target's name: empty then.")
    subjects: list[str] = Field(
        description="The targets in order, each as a keyed hash of its name: the same name is the "
        "same subject in every request of a tenant, and another in each other tenant."
    )
    progress: Progress
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    due_at: datetime | None
    erased_at: datetime | None = Field(
        description="Since when the target's name, its pictures and the metadata are deleted."
    )
    extended_from: datetime | None
    extension_reason: ExtensionReason | None
    approval: ApprovalView | None
    retries: int
    rerun_of: str | None
    attempts: int
    error: JobError | None
    result: JobResult | None
    urls: JobUrls


class JobPage(Output):
    """One page of jobs, newest first; ``next`` is the cursor of the following page."""

    items: list[JobView]
    next: str | None
