"""``/jobs``: one job, with a long poll; the list; the evaluation. Decisions: ``lifecycle``."""

from __future__ import annotations

import time
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from api_schemas.base import Input
from api_schemas.jobs import JobPage, JobStatus, JobView
from api_schemas.reports import Report
from api_schemas.requests import ModelId
from registry import jobs
from registry.errors import InvalidCursor, JobNotFound
from registry.jobs import Standing
from service import answers, documentation, errors, views
from service.access import Caller, Reader
from service.parameters import IfNoneMatch, JobId
from service.parts import Parts, PartsOf

router = APIRouter(tags=["jobs"])

MAX_WAIT_SECONDS: Final = 60
#: How long a caller who has left may go unnoticed.
LOOK_UP_SECONDS: Final = 5.0


class Waiting(Input):
    """How long an answer may be held back."""

    wait: float = Field(
        default=0,
        ge=0,
        le=MAX_WAIT_SECONDS,
        allow_inf_nan=False,
        description="Seconds to wait for a change of status, phase or fraction.",
    )


class Listing(Input):
    """Which jobs, and how many at once."""

    limit: int = Field(default=20, ge=1, le=100)
    cursor: str | None = Field(
        default=None, max_length=512, description="``next`` of the page before."
    )
    status: JobStatus | None = None
    model: ModelId | None = None


@router.get(
    "/jobs/{job_id}",
    response_model=JobView,
    summary="One job, now or at its next change",
    responses=documentation.tagged()
    | documentation.problems_of(JobNotFound, errors.InvalidRequest),
)
async def read_job(
    request: Request,
    parts: PartsOf,
    caller: Reader,
    job_id: JobId,
    query: Annotated[Waiting, Query()],
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Where the job stands.

    With ``wait`` the answer comes at the first change, when the job is final, or when the time is
    over; with ``If-None-Match`` as well, a change since that answer counts too, so none is missed.
    """
    view = await run_in_threadpool(_view, parts, caller, job_id)
    first = _changing(view)
    until = time.monotonic() + query.wait
    while (
        not view.status.is_final
        and _changing(view) == first
        and (if_none_match is None or _is_current(view, if_none_match))
        and (left := until - time.monotonic()) > 0
        and not parts.stopping.is_set()
        and not await request.is_disconnected()
    ):
        # The standing as the view shows it, so that no change since then is missed.
        await parts.standings.changed(job_id, _standing(view), min(LOOK_UP_SECONDS, left))
        view = await run_in_threadpool(_view, parts, caller, job_id)
    return answers.json_answer(view, if_none_match=if_none_match)


def _view(parts: Parts, caller: Caller, job_id: str) -> JobView:
    with parts.database.reading() as session:
        return views.job_view(jobs.get(session, job_id, caller.tenant))


def _changing(view: JobView) -> tuple[JobStatus, str, float]:
    return view.status, view.progress.phase, view.progress.fraction


def _standing(view: JobView) -> Standing:
    progress = view.progress
    return Standing(
        view.status, progress.phase, progress.fraction, progress.eta_seconds, view.due_at
    )


def _is_current(view: JobView, if_none_match: str) -> bool:
    return answers.json_answer(view, if_none_match=if_none_match).status_code == 304


@router.get(
    "/jobs",
    response_model=JobPage,
    summary="Jobs, newest first",
    responses=documentation.linked()
    | documentation.problems_of(InvalidCursor, errors.InvalidRequest),
)
def list_jobs(parts: PartsOf, caller: Reader, query: Annotated[Listing, Query()]) -> Response:
    """One page of jobs; ``next`` and the ``Link`` header lead to the following one."""
    with parts.database.reading() as session:
        found, following = jobs.page(
            session,
            tenant=caller.tenant,
            limit=query.limit,
            cursor=query.cursor,
            status=query.status,
            model=query.model,
        )
    headers = {}
    if following is not None:
        asked = query.model_dump(mode="json", exclude_none=True) | {"cursor": following}
        headers["link"] = f'</jobs?{urlencode(asked)}>; rel="next"'
    page = JobPage(items=[views.job_view(job) for job in found], next=following)
    return answers.json_answer(page, headers=headers)


@router.get(
    "/jobs/{job_id}/evaluation",
    response_model=Report,
    summary="What the run found out",
    responses=documentation.tagged()
    | documentation.problems_of(JobNotFound, errors.EvaluationPending, errors.EvaluationAbsent),
)
def read_evaluation(
    parts: PartsOf, caller: Reader, job_id: JobId, if_none_match: IfNoneMatch = None
) -> Response:
    """The report: figures before and after on test pictures, the gate's verdict, the cost."""
    with parts.database.reading() as session:
        job = jobs.get(session, job_id, caller.tenant)
        report = jobs.report(session, job_id)
    if report is None:
        raise errors.EvaluationAbsent if job.status.is_final else errors.EvaluationPending
    return answers.json_answer(report, if_none_match=if_none_match)
