"""``/jobs/{id}/report.html``: the evaluation as a page for people."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from starlette.responses import HTMLResponse, Response

from registry import jobs, models, patches
from registry.errors import JobNotFound
from service import answers, documentation, errors, examples, report_page, views
from service.access import Reader
from service.parameters import IfNoneMatch, JobId
from service.parts import PartsOf

router = APIRouter(tags=["jobs"])

HTML: Final = "text/html; charset=utf-8"


@router.get(
    "/jobs/{job_id}/report.html",
    response_class=HTMLResponse,
    summary="What the run found out, as a page",
    responses=documentation.page(examples.PAGE)
    | documentation.problems_of(JobNotFound, errors.EvaluationPending, errors.EvaluationAbsent),
)
def read_report_page(
    parts: PartsOf, caller: Reader, job_id: JobId, if_none_match: IfNoneMatch = None
) -> Response:
    """The report for a person to read, print or file: one page that loads nothing.

    It says what was decided, on which figures, and what they do not prove. It never names the
    target; pictures that a generator painted are part of it as long as the tenant keeps pictures.
    """
    with parts.database.reading() as session:
        job = jobs.get(session, job_id, caller.tenant)
        report = jobs.report(session, job_id)
        if report is None:
            raise errors.EvaluationAbsent if job.status.is_final else errors.EvaluationPending
        model = models.get(session, job.request.model)
        patch = None if job.patch_id is None else patches.get(session, job.patch_id, caller.tenant)
    finding = report_page.Finding(
        job=views.job_view(job),
        report=report,
        family=model.record.family,
        checkpoint_digest=model.digest,
        method=job.request.method,
        probes=job.request.evaluation.probes,
        patch_sha256=None if patch is None else patch.sha256,
    )
    # frame-ancestors is the one part that counts in a header alone, not in the page itself.
    headers = {"content-security-policy": f"{report_page.policy()}; frame-ancestors 'none'"}
    body = report_page.render(finding).encode()
    return answers.tagged(body, HTML, headers=headers, if_none_match=if_none_match)
