"""``POST /unlearn``: everything is checked before anything is stored; then one transaction."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

from anyio import to_thread
from fastapi import APIRouter, Depends
from sqlalchemy.orm import Session
from starlette.datastructures import FormData
from starlette.responses import Response

from api_schemas import methods
from api_schemas.deadlines import statutory_deadline
from api_schemas.jobs import JobView
from api_schemas.problems import FieldProblem
from api_schemas.requests import UnlearnRequest
from api_schemas.tenants import TenantSettings
from registry import failpoints, idempotency, jobs, models, quotas, tenants
from registry.errors import IdempotencyConflict, ModelNotFound, StoreFailed
from registry.jobs.record import Job
from registry.sealing import DataKey
from service import answers, documentation, errors, intake, submission, views
from service.access import Caller, Writer
from service.parameters import IdempotencyKey
from service.parts import Parts, PartsOf, now
from service.submission import Submission

router = APIRouter(tags=["jobs"])

ROUTE: Final = "POST /unlearn"
#: Pictures are stored side by side where all of them fit into this much memory, twice.
STORED_TOGETHER_BYTES: Final = 64 * 2**20
#: When it makes sense to look for the first progress.
RETRY_AFTER_SECONDS: Final = 2
# A structured string (RFC 8941) is quoted, with backslashes before quotes and backslashes; most
# clients send the bare characters.
_QUOTED: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\]){1,255})"')
_BARE: Final = re.compile(r"[!#-\[\]-~](?:[ !#-\[\]-~]{0,253}[!#-\[\]-~])?")


def idempotency_key(header: str | None) -> str | None:
    """The key in this header, the same whether quoted or bare. Raises ``InvalidIdempotencyKey``."""
    if header is None:
        return None
    if quoted := _QUOTED.fullmatch(header.strip()):
        return re.sub(r"\\(.)", r"\1", quoted[1])
    if bare := _BARE.fullmatch(header.strip()):
        return bare[0]
    raise errors.InvalidIdempotencyKey


@router.post(
    "/unlearn",
    status_code=202,
    response_model=JobView,
    summary="Make a model forget a concept, or several",
    responses=documentation.accepted()
    | documentation.problems_of(
        errors.MalformedJson,
        errors.MalformedMultipart,
        errors.InvalidIdempotencyKey,
        errors.UnsupportedMediaType,
        errors.BodyTooLarge,
        errors.BodyTooSlow,
        errors.InvalidRequest,
        errors.UnknownModel,
        errors.UnknownMethod,
        errors.UnsupportedMethod,
        errors.InvalidSamples,
        IdempotencyConflict,
        errors.QuotaExceeded,
        errors.StorageUnavailable,
        errors.DecoderUnavailable,
    ),
    openapi_extra=documentation.unlearn_body(),
)
async def unlearn(
    parts: PartsOf,
    caller: Writer,
    body: Annotated[bytes | FormData, Depends(submission.read_body)],
    key_header: IdempotencyKey = None,
) -> Response:
    """Accept a request and answer with its job, which a worker takes up: now, or once approved.

    The body is either ``multipart/form-data`` (a part ``request`` with the fields as JSON, files
    as ``samples`` and ``probe_samples``) or ``application/json`` with the pictures in base64. With
    ``targets`` instead of ``target`` one request, one job and one patch make the model forget
    several concepts: each target says in ``samples`` how many pictures are its own, and the
    pictures follow each other target by target.
    """
    # In the common thread pool, pictures under way would keep every other request waiting.
    return await to_thread.run_sync(
        _unlearn, parts, caller, body, key_header, limiter=parts.submissions
    )


def _unlearn(
    parts: Parts, caller: Caller, body: bytes | FormData, key_header: str | None
) -> Response:
    key = idempotency_key(key_header)
    submitted = submission.parse(body)
    known = None
    if key is not None:
        fingerprint = parts.database.keys.fingerprint(submitted.fingerprint())
        known = idempotency.Key(ROUTE, key, fingerprint)
    with parts.database.transaction() as session:
        job = _made_before(session, caller, known)
        if job is not None:
            return _answer(job)
        method = method_for(session, submitted.request)
        _check_quota(session, caller)
    job = accept(parts, caller, submitted, method, known)
    failpoints.reach(failpoints.Point.AFTER_ACCEPT)
    return _answer(job)


def _made_before(session: Session, caller: Caller, key: idempotency.Key | None) -> Job | None:
    if key is None:
        return None
    job_id = idempotency.lookup(session, tenant=caller.tenant, principal=caller.principal, key=key)
    return None if job_id is None else jobs.get(session, job_id, caller.tenant)


def _check_quota(session: Session, caller: Caller) -> None:
    """Raises ``QuotaExceeded``."""
    seconds = quotas.wait_seconds(session, caller.tenant, now=now())
    if seconds is not None:
        raise errors.QuotaExceeded(headers={"retry-after": str(seconds)})


def _retention_days(settled: TenantSettings, parts: Parts) -> int:
    """The tenant's own, where it has settled one; else the installation's."""
    own = settled.retention_days
    return parts.settings.retention_days if own is None else own


def method_for(session: Session, request: UnlearnRequest) -> methods.Method:
    """The method with the defaults of the model's family, as it will be run and recorded.

    Raises ``UnknownModel`` or ``UnsupportedMethod`` unless it can edit the model.
    """
    try:
        model = models.get(session, request.model)
    except ModelNotFound:
        raise errors.UnknownModel(
            [_field("/model", "unknown_model", "There is no such model; see GET /models.")]
        ) from None
    method = request.method
    if model.record.family not in method.families or method.method not in model.methods:
        offered = ", ".join(model.methods) or "none"
        detail = f"This model can be edited with: {offered}."
        raise errors.UnsupportedMethod([_field("/method/method", "unsupported_method", detail)])
    return methods.for_family(method, model.record.family)


def _field(pointer: str, code: str, detail: str) -> FieldProblem:
    return FieldProblem(pointer=pointer, code=code, detail=detail)


def accept(
    parts: Parts,
    caller: Caller,
    submitted: Submission,
    method: methods.Method,
    key: idempotency.Key | None,
    note: Callable[[Session, Job], None] | None = None,
) -> Job:
    """The job, queued, with its pictures clean and stored.

    ``note`` writes what else is to be remembered in the job's own transaction; if it raises, there
    is no job. Raises ``InvalidSamples``, ``StorageUnavailable``, ``DecoderUnavailable``,
    ``IdempotencyConflict``, ``QuotaExceeded``.
    """
    groups = {"samples": submitted.samples, "probe_samples": submitted.probe_samples}
    limits = intake.Limits.of(parts.settings, len(submitted.request.wanted()))
    data_key = DataKey.random()
    work_folder = parts.settings.work_folder
    try:
        with intake.clean_copies(groups, limits, parts.decoders, work_folder) as copies:
            stored = {name: _store(parts, data_key, paths) for name, paths in copies.items()}
    except (OSError, StoreFailed) as exc:
        raise errors.StorageUnavailable from exc
    request = submitted.request.model_copy(update={"method": method})
    received_at = now()
    # If this fails the blobs stay behind: nobody has their key, and the janitor sweeps them.
    with parts.database.transaction() as session:
        # Again: meanwhile others may have used the quota up, or this very request have come twice.
        job = _made_before(session, caller, key)
        if job is not None:
            return job
        _check_quota(session, caller)
        settled = tenants.get(session, caller.tenant).settings
        job = jobs.accept(
            session,
            request,
            tenant=caller.tenant,
            principal=caller.principal,
            samples=stored["samples"],
            probe_samples=stored["probe_samples"],
            due_at=request.due_at or statutory_deadline(request.regulation, received_at),
            idempotency=key,
            now=received_at,
            data_key=data_key,
            retention_days=_retention_days(settled, parts),
            approval_required=settled.approval_required,
        )
        if note is not None:
            note(session, job)
        return job


def _store(parts: Parts, data_key: DataKey, paths: list[Path]) -> list[str]:
    def put(path: Path) -> str:
        return parts.blobs.put(data_key.seal_picture(path.read_bytes()))

    # What takes time is waiting for the disk or the store; that of many can be waited for at once.
    together = sum(path.stat().st_size for path in paths) <= STORED_TOGETHER_BYTES
    if not together or len(paths) < 2:
        return [put(path) for path in paths]
    return list(parts.storing.map(put, paths))


def _answer(job: Job) -> Response:
    view = views.job_view(job)
    headers = {"location": view.urls.self, "retry-after": str(RETRY_AFTER_SECONDS)}
    return answers.json_answer(view, status=202, headers=headers)
