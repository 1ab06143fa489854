"""The one table from exceptions to problems, and the response that carries one (RFC 9457).

``type`` is ``/problems/<slug>``: stable, relative to the service's root, and readable there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from api_schemas.problems import MEDIA_TYPE, FieldProblem, Problem
from registry import errors as registry_errors
from service import errors
from service.fields import from_parameters
from service.opendsr import refusals

RETRY_AFTER_SECONDS = 5
PREFIX: Final = "/problems/"


@dataclass(frozen=True, slots=True)
class Kind:
    """One type of problem. ``detail`` is only given where the exception is not our own."""

    slug: str
    status: int
    title: str
    retryable: bool = False
    detail: str = ""


_UNAVAILABLE: Final = Kind(
    "database-unavailable",
    503,
    "The database does not answer",
    retryable=True,
    detail="The database does not answer; nothing was changed, so send the request again later.",
)

#: Subclasses inherit the line of the nearest class above them.
TABLE: Final[dict[type[Exception], Kind]] = {
    errors.Unauthenticated: Kind("unauthenticated", 401, "Not authenticated"),
    errors.InsufficientScope: Kind("insufficient-scope", 403, "Insufficient scope"),
    errors.RateLimited: Kind("rate-limited", 429, "Too many requests", retryable=True),
    errors.QuotaExceeded: Kind("quota-exceeded", 429, "Quota exceeded", retryable=True),
    errors.IdentityProviderUnavailable: Kind(
        "identity-provider-unavailable", 503, "Identity provider does not answer", retryable=True
    ),
    errors.RouteNotFound: Kind("not-found", 404, "Not found"),
    errors.MethodNotAllowed: Kind("method-not-allowed", 405, "Method not allowed"),
    errors.BadRequest: Kind("bad-request", 400, "Bad request"),
    errors.MalformedJson: Kind("malformed-json", 400, "Malformed JSON"),
    errors.MalformedMultipart: Kind("malformed-multipart", 400, "Malformed multipart body"),
    errors.InvalidIdempotencyKey: Kind("invalid-idempotency-key", 400, "Invalid Idempotency-Key"),
    errors.InvalidLastEventId: Kind("invalid-last-event-id", 400, "Invalid Last-Event-ID"),
    errors.UnsupportedMediaType: Kind("unsupported-media-type", 415, "Unsupported media type"),
    errors.JsonOnly: Kind("json-only", 415, "Only JSON is taken here"),
    errors.HeadTooLarge: Kind("head-too-large", 431, "Head too large"),
    errors.BodyTooLarge: Kind("body-too-large", 413, "Body too large"),
    errors.BodyTooSlow: Kind("body-too-slow", 408, "Body too slow", retryable=True),
    errors.InvalidRequest: Kind("invalid-request", 422, "Invalid request"),
    errors.UnknownModel: Kind("unknown-model", 422, "Unknown model"),
    errors.UnknownMethod: Kind("unknown-method", 422, "Unknown method"),
    errors.UnsupportedMethod: Kind("unsupported-method", 422, "Method does not suit the model"),
    errors.InvalidSamples: Kind("invalid-samples", 422, "Unusable pictures"),
    errors.UnsupportedRequestType: Kind(
        "unsupported-request-type", 422, "Only erasure is supported"
    ),
    errors.EvaluationPending: Kind("evaluation-pending", 404, "No evaluation yet", retryable=True),
    errors.EvaluationAbsent: Kind("evaluation-absent", 404, "No evaluation"),
    errors.EvidenceAbsent: Kind("evidence-absent", 404, "No evidence"),
    errors.SigningKeyUnusable: Kind(
        "signing-key-unusable", 503, "Nothing can be signed now", retryable=True
    ),
    errors.UnfitRecord: Kind("unfit-record", 422, "Record does not fit its files"),
    errors.RegistrationOff: Kind("registration-off", 409, "Models are not registered over HTTP"),
    errors.UnsafeModelPath: Kind("unsafe-model-path", 422, "Path leads out of the models folder"),
    errors.ModelTooLarge: Kind("model-too-large", 422, "Checkpoint is too large to register here"),
    errors.RangeNotSatisfiable: Kind("range-not-satisfiable", 416, "Range not satisfiable"),
    errors.ArtifactUnusable: Kind("artifact-unusable", 500, "Stored files do not fit together"),
    errors.StorageUnavailable: Kind(
        "storage-unavailable", 503, "Pictures cannot be stored", retryable=True
    ),
    errors.DecoderUnavailable: Kind(
        "decoder-unavailable", 503, "Pictures cannot be decoded", retryable=True
    ),
    errors.InternalError: Kind("internal-error", 500, "Internal error", retryable=True),
    registry_errors.JobNotFound: Kind("job-not-found", 404, "No such job"),
    registry_errors.JobFinished: Kind("job-finished", 409, "Job is finished"),
    registry_errors.JobUnfinished: Kind("job-unfinished", 409, "Job is not finished"),
    registry_errors.JobSucceeded: Kind("job-succeeded", 409, "Job succeeded"),
    registry_errors.SubjectRequestCancelled: Kind(
        "subject-request-cancelled", 409, "Subject request was cancelled"
    ),
    registry_errors.PersonalDataGone: Kind("personal-data-gone", 409, "Personal data is deleted"),
    registry_errors.PicturesGone: Kind("pictures-gone", 409, "Pictures are missing"),
    registry_errors.NotAwaitingApproval: Kind(
        "not-awaiting-approval", 409, "Job awaits no such decision"
    ),
    registry_errors.OwnRequest: Kind("own-request", 403, "Own request"),
    registry_errors.NotExtendable: Kind("not-extendable", 409, "No legal deadline"),
    registry_errors.AlreadyExtended: Kind("already-extended", 409, "Deadline was extended before"),
    registry_errors.DeadlinePassed: Kind("deadline-passed", 409, "Deadline is over"),
    registry_errors.ExtensionOutOfRange: Kind(
        "extension-out-of-range", 422, "New deadline is out of range"
    ),
    registry_errors.InvalidCursor: Kind("invalid-cursor", 400, "Invalid cursor"),
    registry_errors.IdempotencyConflict: Kind(
        "idempotency-conflict", 422, "Idempotency-Key was used for another request"
    ),
    registry_errors.ModelNotFound: Kind("model-not-found", 404, "No such model"),
    registry_errors.ModelExists: Kind("model-exists", 409, "Model id is taken"),
    registry_errors.VersionNotFound: Kind("version-not-found", 404, "No such version"),
    registry_errors.VersionRevoked: Kind("version-revoked", 410, "Version was revoked"),
    registry_errors.BaseNotRevocable: Kind("base-not-revocable", 409, "Base cannot be revoked"),
    registry_errors.VersionWithdrawn: Kind("version-withdrawn", 409, "Version is out already"),
    registry_errors.RevocationBlocked: Kind("revocation-blocked", 409, "Revocation is blocked"),
    registry_errors.PatchNotFound: Kind("patch-not-found", 404, "No such patch"),
    registry_errors.LineNotFound: Kind("line-not-found", 404, "No such line"),
    registry_errors.TreeSizeInvalid: Kind("tree-size-invalid", 400, "No tree of that size"),
    registry_errors.SubjectRequestNotFound: Kind(
        "subject-request-not-found", 404, "No such subject request"
    ),
    registry_errors.SubjectRequestConflict: Kind(
        "subject-request-conflict", 409, "subject_request_id was used for another request"
    ),
    registry_errors.SubjectRequestNotPending: Kind(
        "subject-request-not-pending", 409, "Subject request is not pending"
    ),
    registry_errors.BlobMissing: Kind("artifact-missing", 500, "Stored file is missing"),
    registry_errors.StoreFailed: Kind(
        "blob-store-unavailable",
        503,
        "Stored files cannot be read or written",
        retryable=True,
        detail="The store of pictures and patches does not do its work; send the request again "
        "later, and if it persists tell the operator.",
    ),
    registry_errors.WebhookNotFound: Kind("webhook-not-found", 404, "No such webhook"),
    registry_errors.WebhookDisabled: Kind("webhook-disabled", 409, "Webhook is disabled"),
    registry_errors.TooManyWebhooks: Kind("too-many-webhooks", 409, "Too many webhooks"),
    registry_errors.DeliveryNotFound: Kind("delivery-not-found", 404, "No such delivery"),
    OperationalError: _UNAVAILABLE,
    InterfaceError: _UNAVAILABLE,
    PoolTimeout: _UNAVAILABLE,
}

BY_SLUG: Final[dict[str, type[Exception]]] = {kind.slug: exc for exc, kind in TABLE.items()}

_BY_HTTP_STATUS: Final[dict[int, type[errors.ServiceError]]] = {
    404: errors.RouteNotFound,
    405: errors.MethodNotAllowed,
    413: errors.BodyTooLarge,
}


def kind_of(exc_type: type[BaseException]) -> Kind:
    """The line of the table for this class of exceptions; what it does not know is internal."""
    for cls in exc_type.__mro__:
        if cls in TABLE:
            return TABLE[cls]
    return TABLE[errors.InternalError]


def translated(exc: Exception) -> Exception:
    """The framework's own exceptions as ours; every other exception as it is."""
    if isinstance(exc, RequestValidationError):
        if any(line["type"] == "json_invalid" for line in exc.errors()):
            return errors.MalformedJson()
        return errors.InvalidRequest(from_parameters(exc.errors()))
    if isinstance(exc, HTTPException):
        cls = _BY_HTTP_STATUS.get(exc.status_code, errors.BadRequest)
        return cls(headers=exc.headers)
    return exc


def detail_of(exc_type: type[BaseException]) -> str:
    """The fixed sentence for a caller: nothing that anyone sent can be part of it."""
    known = next((cls for cls in exc_type.__mro__ if cls in TABLE), errors.InternalError)
    return kind_of(known).detail or errors.first_paragraph(known)


def problem_for(
    exc_type: type[BaseException], *, request_id: str, fields: Sequence[FieldProblem] = ()
) -> Problem:
    """What a caller reads about an exception of this class; its message never appears."""
    kind = kind_of(exc_type)
    return Problem(
        type=PREFIX + kind.slug,
        title=kind.title,
        status=kind.status,
        detail=detail_of(exc_type),
        request_id=request_id,
        retryable=kind.retryable,
        errors=list(fields),
    )


def response_to(exc: Exception, scope: Scope) -> Response:
    """The problem as an HTTP response to the request of this scope."""
    exc = translated(exc)
    ours = exc if isinstance(exc, errors.ServiceError) else errors.ServiceError()
    request_id = scope["state"]["request_id"]
    problem = problem_for(type(exc), request_id=request_id, fields=ours.fields)
    headers = {"cache-control": "no-store"}
    if problem.status == 503:
        headers["retry-after"] = str(RETRY_AFTER_SECONDS)
    if refusals.belongs(scope["path"]):
        return refusals.response(problem, headers | ours.headers)
    return Response(
        problem.model_dump_json(),
        status_code=problem.status,
        headers=headers | ours.headers,
        media_type=MEDIA_TYPE,
    )
