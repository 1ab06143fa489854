"""What the HTTP front itself can refuse.

ServiceError
├── Unauthenticated
├── InsufficientScope
├── RateLimited
├── QuotaExceeded
├── IdentityProviderUnavailable
├── RouteNotFound
├── MethodNotAllowed
├── BadRequest
│   ├── MalformedJson
│   ├── MalformedMultipart
│   ├── InvalidIdempotencyKey
│   └── InvalidLastEventId
├── UnsupportedMediaType
│   └── JsonOnly
├── HeadTooLarge
├── BodyTooLarge
├── BodyTooSlow
├── InvalidRequest
│   ├── UnknownModel
│   ├── UnknownMethod
│   ├── UnsupportedMethod
│   ├── InvalidSamples
│   ├── UnsafeModelPath
│   ├── ModelTooLarge
│   ├── UnfitRecord
│   └── UnsupportedRequestType
├── EvaluationPending
├── EvaluationAbsent
├── EvidenceAbsent
├── SigningKeyUnusable
├── RegistrationOff
├── RangeNotSatisfiable
├── ArtifactUnusable
├── StorageUnavailable
├── DecoderUnavailable
└── InternalError

The first paragraph of a class's docstring is the ``detail`` that a caller reads, so it says what
to do next and holds no data. What is wrong with which field travels as ``fields``: pointers, codes
and fixed sentences, never what the caller sent. ``service.problems`` gives each its status.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

from api_schemas.problems import FieldProblem


def first_paragraph(kind: type[BaseException]) -> str:
    """The first paragraph of the docstring on one line: the fixed message of that class."""
    return " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())


class ServiceError(Exception):
    """The service refused this; look at the type of the problem for what to do next."""

    def __init__(
        self, fields: Sequence[FieldProblem] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        self.fields = list(fields)
        self.headers = dict(headers or {})

    def __str__(self) -> str:
        return first_paragraph(type(self))


class Unauthenticated(ServiceError):
    """Send a valid API key as Authorization: Bearer; your operator has them.

    The same for a key that is missing, garbled, unknown, expired or revoked: whoever guesses
    learns nothing.
    """


class InsufficientScope(ServiceError):
    """The key lacks the scope that errors names; use another key, or ask your operator for one."""


class RateLimited(ServiceError):
    """Too many requests; wait the seconds that the Retry-After header says and send it again."""


class QuotaExceeded(ServiceError):
    """Your tenant may send no more jobs now; try again after the seconds in Retry-After."""


class IdentityProviderUnavailable(ServiceError):
    """The identity provider's keys cannot be fetched; try again later, or use an API key."""


class RouteNotFound(ServiceError):
    """There is nothing at this address; /openapi.json lists what there is."""


class MethodNotAllowed(ServiceError):
    """The address does not take that method; the Allow header lists those it takes."""


class BadRequest(ServiceError):
    """The request cannot be read; compare it with /openapi.json."""


class MalformedJson(BadRequest):
    """The request is not valid JSON in UTF-8; check its syntax and send it again."""


class MalformedMultipart(BadRequest):
    """The multipart body cannot be read; check its boundary, and that each part has a name.

    The part 'request' may have at most 1 MiB.
    """


class InvalidIdempotencyKey(BadRequest):
    """The Idempotency-Key must be 1 to 255 printable ASCII characters, bare or in quotes."""


class InvalidLastEventId(BadRequest):
    """The Last-Event-ID must be the id of one of the job's events; leave it out to start anew."""


class UnsupportedMediaType(ServiceError):
    """Send multipart/form-data or application/json, without a Content-Encoding."""


class JsonOnly(UnsupportedMediaType):
    """Send application/json, without a Content-Encoding."""


class HeadTooLarge(ServiceError):
    """The request has too many headers, or too long ones; leave out what it does not need."""


class BodyTooLarge(ServiceError):
    """The body is larger than this service accepts; send fewer or smaller pictures."""


class BodyTooSlow(ServiceError):
    """The body came too slowly; send it again over a faster line, or with smaller pictures."""


class InvalidRequest(ServiceError):
    """The request breaks its schema; correct the fields listed in errors and send it again."""


class UnknownModel(InvalidRequest):
    """There is no such model on the shelf; GET /models lists those that can be edited."""


class UnknownMethod(InvalidRequest):
    """There is no such unlearning method; GET /methods lists them with their parameters."""


class UnsupportedMethod(InvalidRequest):
    """The method cannot edit this model; its entry in GET /models lists the methods that can."""


class InvalidSamples(InvalidRequest):
    """The pictures cannot be used as they are; errors says which ones and why."""


class UnsafeModelPath(InvalidRequest):
    """Every path must lead to a folder inside the models folder; correct those in errors."""


class ModelTooLarge(InvalidRequest):
    """So many bytes are not hashed within a request; have an operator use `razor models add`."""


class UnfitRecord(InvalidRequest):
    """The record and the files that it names do not fit together; errors says which field."""


class UnsupportedRequestType(InvalidRequest):
    """Only erasure is supported; send portability and access to whoever keeps the data itself."""


class EvaluationPending(ServiceError):
    """There is no evaluation yet; wait until the job is finished and ask again."""


class EvaluationAbsent(ServiceError):
    """The job ended before anything was measured, so there is no evaluation; see its error."""


class EvidenceAbsent(ServiceError):
    """There is evidence only of a published patch that is not revoked; see the job's outcome.

    What was made before a revocation stays. Of the others the audit log and the evaluation tell.
    """


class SigningKeyUnusable(ServiceError):
    """The signing key cannot be used; ask an operator to look at its file and who may read it."""


class RegistrationOff(ServiceError):
    """No folder for models is set here; an operator sets RAZOR_MODELS_FOLDER and starts it anew.

    `razor models add` on the service's machine registers a model without it.
    """


class RangeNotSatisfiable(ServiceError):
    """The range lies outside the file; the Content-Range header gives its size in bytes."""


class ArtifactUnusable(ServiceError):
    """The stored files do not fit together any more; an operator must restore them from backup."""


class StorageUnavailable(ServiceError):
    """The pictures could not be stored; nothing was accepted, so send the request again later."""


class DecoderUnavailable(ServiceError):
    """Pictures cannot be decoded now; nothing was stored, so send the request again later."""


class InternalError(ServiceError):
    """The service failed here; send the request again, and if it persists report the request id."""
