"""What people decide about a job: call it off, run it again, approve it, put its deadline off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

from fastapi import APIRouter, Body
from starlette.responses import Response

from api_schemas.decisions import Approval, Decline, Extension
from api_schemas.jobs import JobView
from registry import jobs
from registry.errors import (
    AlreadyExtended,
    DeadlinePassed,
    ExtensionOutOfRange,
    JobFinished,
    JobNotFound,
    JobSucceeded,
    JobUnfinished,
    NotAwaitingApproval,
    NotExtendable,
    OwnRequest,
    PersonalDataGone,
    PicturesGone,
    SubjectRequestCancelled,
)
from registry.jobs.record import Job
from service import answers, documentation, examples, views
from service.access import Approver, Caller, Writer
from service.parameters import JobId
from service.parts import Parts, PartsOf, now

router = APIRouter(tags=["jobs"])

_Approval = Annotated[
    Approval | None, Body(openapi_examples={"approved": {"value": examples.BY_SCHEMA["Approval"]}})
]
_Decline = Annotated[
    Decline | None, Body(openapi_examples={"declined": {"value": examples.BY_SCHEMA["Decline"]}})
]

#: What approving and declining can answer.
_DECISION: Final = documentation.problems_of(
    JobNotFound, NotAwaitingApproval, OwnRequest, *documentation.BODY
)


@router.post(
    "/jobs/{job_id}/cancel",
    response_model=JobView,
    summary="Stop a job",
    responses=documentation.problems_of(JobNotFound, JobFinished),
)
def cancel_job(parts: PartsOf, caller: Writer, job_id: JobId) -> Response:
    """Cancel a queued job at once, ask a running one to stop; sending it twice is harmless."""
    return _decided(parts, caller, job_id, jobs.cancel)


@router.post(
    "/jobs/{job_id}/retry",
    response_model=JobView,
    summary="Run a job again",
    responses=documentation.problems_of(
        JobNotFound,
        JobSucceeded,
        JobUnfinished,
        PersonalDataGone,
        PicturesGone,
        SubjectRequestCancelled,
    ),
)
def retry_job(parts: PartsOf, caller: Writer, job_id: JobId) -> Response:
    """Run a failed, rejected or canceled job again under its id, with attempts counted anew.

    The same method, seed and pictures: what the gate refused it refuses again, unless the model or
    its retain set changed since. It needs the names and pictures, which outlive a job's end only
    where a retention time is set; without them post the request anew. A canceled job of a privacy
    platform is not run again: the platform was told that it is over. Sending it twice is harmless
    while the new run lasts.
    """
    return _decided(parts, caller, job_id, jobs.retry, stored=parts.blobs.exists)


@router.post(
    "/jobs/{job_id}/approve",
    response_model=JobView,
    summary="Let a job run",
    responses=_DECISION,
)
def approve_job(
    parts: PartsOf, caller: Approver, job_id: JobId, body: _Approval = None
) -> Response:
    """Queue a job that awaits approval; never one of your own. Sending it twice is harmless."""
    return _decided(parts, caller, job_id, jobs.approve, reason=body and body.reason)


@router.post(
    "/jobs/{job_id}/decline",
    response_model=JobView,
    summary="Keep a job from running",
    responses=_DECISION,
)
def decline_job(parts: PartsOf, caller: Approver, job_id: JobId, body: _Decline = None) -> Response:
    """End a job that awaits approval as canceled, outcome ``declined``; never one of your own."""
    return _decided(parts, caller, job_id, jobs.decline, reason=body and body.reason)


@router.post(
    "/jobs/{job_id}/extend",
    response_model=JobView,
    summary="Put a legal deadline off",
    responses=documentation.problems_of(
        JobNotFound,
        JobFinished,
        NotExtendable,
        AlreadyExtended,
        DeadlinePassed,
        ExtensionOutOfRange,
        *documentation.BODY,
    ),
)
def extend_job(parts: PartsOf, caller: Writer, job_id: JobId, body: Extension) -> Response:
    """Put the deadline off, once: GDPR 12(3) by two calendar months, the CCPA by 45 days.

    The law's first deadline must not be over: whoever asked has to be told before, which is yours
    to do. The queue follows the new deadline.
    """
    return _decided(parts, caller, job_id, jobs.extend, reason=body.reason, until=body.until)


def _decided(
    parts: Parts, caller: Caller, job_id: str, decide: Callable[..., Job], **more: object
) -> Response:
    """The job after this caller's decision, which is one transaction."""
    with parts.database.transaction() as session:
        job = decide(session, job_id, **caller.name(), now=now(), **more)
    return answers.json_answer(views.job_view(job))
