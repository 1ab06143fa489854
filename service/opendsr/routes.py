"""``/opendsr/v2``: discovery, requests, their status, their cancellation, the certificate.

Every route but the certificate's also answers under the names of version 1: on ``/opendsr/v1``,
and with ``opengdpr_requests`` for ``requests``. Its headers are then those of version 1 too.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Final

from anyio import to_thread
from fastapi import APIRouter, Depends, Path, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from api_schemas.opendsr import (
    SUBJECT_REQUEST_ID,
    CancellationReceipt,
    Discovery,
    Receipt,
    RequestType,
    StatusAnswer,
    SubjectRequest,
)
from registry import opendsr
from registry.errors import (
    SubjectRequestConflict,
    SubjectRequestNotFound,
    SubjectRequestNotPending,
)
from registry.jobs.record import Job
from registry.opendsr import Case
from service import documentation, errors, examples, unlearn
from service.access import Caller, Reader, Writer
from service.opendsr import described, messages, translate
from service.opendsr.messages import OPENDSR, OPENGDPR, Names, Processor
from service.parts import Parts, PartsOf, now

router = APIRouter(tags=["opendsr"])

V1: Final = "/opendsr/v1"
V2: Final = "/opendsr/v2"
REQUESTS: Final = f"{V2}/requests"
#: The first version's name for the same, on its own base and, as it must be honoured, on ours.
FORMER: Final = (f"{V1}/opengdpr_requests", f"{V2}/opengdpr_requests")
_ID: Final = re.compile(SUBJECT_REQUEST_ID)


class _Taken(Exception):
    """Another request under this id was faster."""


async def _names(request: Request) -> Names:
    path = request.url.path
    return OPENGDPR if path.startswith((f"{V1}/", FORMER[1])) else OPENDSR


async def _subject_request_id(
    subject_request_id: Annotated[str, Path(examples=["a7551968-d5d6-44b2-9831-815ac9017798"])],
) -> str:
    if not _ID.fullmatch(subject_request_id):
        raise SubjectRequestNotFound("")
    return subject_request_id


NamesOf = Annotated[Names, Depends(_names)]
SubjectRequestId = Annotated[str, Depends(_subject_request_id)]


def _processor(parts: Parts) -> Processor:
    return Processor(parts.settings.opendsr_domain, parts.signer)


@router.get(f"{V1}/discovery", include_in_schema=False)
@router.get(
    f"{V2}/discovery",
    response_model=Discovery,
    summary="What this processor can do for a privacy platform",
    responses=documentation.problems_of(),
)
async def discover(request: Request, names: NamesOf) -> Response:
    """No key is needed. Identities are accepted in requests, but nobody is found by one."""
    found = Discovery(
        api_version=names.api_version,
        supported_identities=[],
        supported_subject_request_types=[RequestType.ERASURE],
        # On the domain at which this very request was received, as the specification wants it.
        processor_certificate=str(request.url_for("read_certificate")),
    )
    body = messages.as_json(found.model_dump(mode="json"))
    return Response(body, headers={"cache-control": "no-store"}, media_type=messages.JSON)


@router.get(
    f"{V2}/certificate",
    response_class=Response,
    summary="The certificate to verify signatures with",
    responses=documentation.text("application/x-pem-file", examples.CERTIFICATE)
    | documentation.problems_of(),
)
def read_certificate(parts: PartsOf) -> Response:
    """No key is needed. The signing certificate comes first, then its chain, if any."""
    return Response(parts.signer.certificate(), media_type="application/x-pem-file")


@router.post(FORMER[0], status_code=201, include_in_schema=False)
@router.post(FORMER[1], status_code=201, include_in_schema=False)
@router.post(
    REQUESTS,
    status_code=201,
    response_model=Receipt,
    summary="Erase a data subject from a model",
    responses=described.signed(201, "Received; the same request again gets the same answer.")
    | documentation.problems_of(
        errors.MalformedJson,
        errors.InvalidRequest,
        errors.UnsupportedRequestType,
        errors.UnknownModel,
        errors.UnknownMethod,
        errors.UnsupportedMethod,
        errors.InvalidSamples,
        SubjectRequestConflict,
        errors.JsonOnly,
        errors.BodyTooLarge,
        errors.BodyTooSlow,
        errors.QuotaExceeded,
        errors.StorageUnavailable,
        errors.DecoderUnavailable,
    ),
    openapi_extra=described.body(),
)
async def create_request(
    parts: PartsOf,
    caller: Writer,
    names: NamesOf,
    body: Annotated[bytes, Depends(translate.read_body)],
) -> Response:
    """Accept a request for erasure, as a job like those of `POST /unlearn`.

    Model, target and pictures are in `extensions`, under this processor's domain.
    """
    return await to_thread.run_sync(_create, parts, caller, names, body, limiter=parts.submissions)


def _create(parts: Parts, caller: Caller, names: Names, body: bytes) -> Response:
    asked = translate.subject_request(body, names)
    digest = hashlib.sha256(body).hexdigest()
    case = _known(parts, caller, asked, digest) or _accept(parts, caller, names, asked, digest)
    processor = _processor(parts)
    return processor.answer(processor.receipt(case, body), names, status=201)


def _known(parts: Parts, caller: Caller, asked: SubjectRequest, digest: str) -> Case | None:
    with parts.database.transaction() as session:
        case = opendsr.find(session, caller.tenant, asked.subject_request_id)
    if case is not None and case.body_sha256 != digest:
        raise SubjectRequestConflict(asked.subject_request_id)
    return case


def _accept(parts: Parts, caller: Caller, names: Names, asked: SubjectRequest, digest: str) -> Case:
    domain = parts.settings.opendsr_domain
    submitted = translate.request_in(asked, domain)
    assert asked.regulation is not None

    def note(session: Session, job: Job) -> None:
        assert asked.regulation is not None
        added = opendsr.add(
            session,
            job,
            subject_request_id=asked.subject_request_id,
            body_sha256=digest,
            regulation=asked.regulation,
            callback_urls=asked.status_callback_urls,
            version=names.version,
        )
        if not added:
            raise _Taken

    try:
        with translate.under(domain):
            with parts.database.transaction() as session:
                method = unlearn.method_for(session, submitted.request)
            unlearn.accept(parts, caller, submitted, method, None, note)
    except _Taken:
        pass
    case = _known(parts, caller, asked, digest)
    assert case is not None, "it is this request's, or that of the one which was faster"
    return case


@router.get(f"{FORMER[0]}/{{subject_request_id}}", include_in_schema=False)
@router.get(f"{FORMER[1]}/{{subject_request_id}}", include_in_schema=False)
@router.get(f"{REQUESTS}/{{subject_request_id}}/status", include_in_schema=False)
@router.get(
    f"{REQUESTS}/{{subject_request_id}}",
    response_model=StatusAnswer,
    summary="Where a subject request stands",
    responses=described.signed(200, "As it is now.")
    | documentation.problems_of(SubjectRequestNotFound),
)
def read_status(
    parts: PartsOf, caller: Reader, names: NamesOf, subject_request_id: SubjectRequestId
) -> Response:
    """`completed` once the edited model passed its checks, or had nothing to forget.

    A run without success stays `in_progress`; `extensions` says why. The same is answered at
    `.../status`.
    """
    with parts.database.transaction() as session:
        case = opendsr.get(session, caller.tenant, subject_request_id)
    processor = _processor(parts)
    return processor.answer(processor.status(case, names), names, status=200)


@router.delete(f"{FORMER[0]}/{{subject_request_id}}", status_code=202, include_in_schema=False)
@router.delete(f"{FORMER[1]}/{{subject_request_id}}", status_code=202, include_in_schema=False)
@router.delete(
    f"{REQUESTS}/{{subject_request_id}}",
    status_code=202,
    response_model=CancellationReceipt,
    summary="Cancel a subject request",
    responses=described.signed(202, "Cancelled.")
    | documentation.problems_of(SubjectRequestNotFound, SubjectRequestNotPending),
)
def cancel_request(
    parts: PartsOf, caller: Writer, names: NamesOf, subject_request_id: SubjectRequestId
) -> Response:
    """Only while it is `pending`; what a worker has begun is not taken back here."""
    received_at = now()
    with parts.database.transaction() as session:
        case = opendsr.cancel(
            session,
            caller.tenant,
            subject_request_id,
            principal=caller.principal,
            now=received_at,
        )
    processor = _processor(parts)
    return processor.answer(processor.cancellation(case, received_at), names, status=202)
