"""Records of the registry as the views that callers see."""

from __future__ import annotations

from api_schemas.decisions import ApprovalView
from api_schemas.jobs import JobResult, JobStatus, JobUrls, JobView, Progress
from api_schemas.patches import PatchView
from api_schemas.shelf import ModelView
from registry.jobs.record import Job
from registry.models import Model
from registry.patches import Patch

#: The ends that leave something behind; a failed or canceled job has its error instead.
_WITH_RESULT = frozenset({JobStatus.SUCCEEDED, JobStatus.REJECTED})


def job_view(job: Job) -> JobView:
    """The job without its target's name and pictures."""
    request = job.request
    return JobView(
        id=job.id,
        status=job.status,
        outcome=job.outcome,
        model=request.model,
        method=request.method.method,
        priority=request.priority,
        regulation=request.regulation.value,
        subject_request_id=request.subject_request_id,
        dry_run=request.dry_run,
        metadata=request.metadata,
        subjects=[each.subject for each in job.subjects],
        progress=Progress(phase=job.phase, fraction=job.fraction, eta_seconds=job.eta_seconds),
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        due_at=job.due_at,
        erased_at=job.erased_at,
        extended_from=job.extended_from,
        extension_reason=job.extension_reason,
        approval=_approval(job),
        retries=job.retries,
        rerun_of=job.rerun_of,
        attempts=job.attempts,
        error=job.error,
        result=_result(job),
        urls=job_urls(job.id, job.patch_id, job.model_version),
    )


def _approval(job: Job) -> ApprovalView | None:
    found = job.approval
    if found is None:
        return None
    decision = {None: None, True: "approved", False: "declined"}[found.approved]
    return ApprovalView.model_validate(
        {"decision": decision, "reason": found.reason, "decided_at": found.decided_at}
    )


def _result(job: Job) -> JobResult | None:
    if job.status not in _WITH_RESULT:
        return None
    return JobResult(
        verdict=job.verdict,
        patch_id=job.patch_id,
        model_version=job.model_version,
        revoked_at=job.version_revoked_at,
        rerun=job.rerun,
    )


def job_urls(job_id: str, patch_id: str | None, version: int | None) -> JobUrls:
    """Where to go on from a job, and from its patch and its version if it left them."""
    here = f"/jobs/{job_id}"
    patch = f"/patches/{patch_id}" if patch_id else None
    return JobUrls(
        self=here,
        cancel=f"{here}/cancel",
        events=f"{here}/events",
        retry=f"{here}/retry",
        evaluation=f"{here}/evaluation",
        report=f"{here}/report.html",
        patch=patch,
        patch_file=f"{patch}/patch.safetensors" if patch else None,
        weights=f"{patch}/weights" if patch else None,
        evidence=None if version is None else f"{here}/evidence",
    )


def model_view(model: Model) -> ModelView:
    """The model without the paths of its files."""
    return ModelView(
        id=model.record.id,
        family=model.record.family,
        digest=model.digest,
        domains=list(model.domains),
        methods=list(model.methods),
        thresholds=model.record.thresholds,
        latest_version=model.latest_version,
        created_at=model.created_at,
    )


def patch_view(patch: Patch) -> PatchView:
    """The patch with its manifest."""
    return PatchView(
        id=patch.id,
        job_id=patch.job_id,
        created_at=patch.created_at.isoformat(),
        published=patch.version is not None,
        model_version=patch.version,
        manifest=patch.manifest,
    )
