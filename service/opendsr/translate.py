"""From a subject request to a request of ours: what ``extensions`` says under our domain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from fastapi import Request

from api_schemas.opendsr import Law, RequestType, SubjectRequest
from api_schemas.problems import FieldProblem
from api_schemas.requests import UnlearnRequestWithImages
from service import counts, errors, submission
from service.opendsr.messages import OPENGDPR, Names
from service.submission import Submission

#: These are the subject request's own; and what only tries out an erasure does not complete it.
NOT_IN_EXTENSION: Final = ("regulation", "subject_request_id", "dry_run")


async def read_body(request: Request) -> bytes:
    """The body as it came. Raises ``JsonOnly``, ``BodyTooLarge``."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    encoded = request.headers.get("content-encoding", "identity").strip().lower() != "identity"
    if kind != submission.JSON or encoded:
        raise errors.JsonOnly(headers={"accept": submission.JSON})
    return await request.body()


def subject_request(body: bytes, names: Names) -> SubjectRequest:
    """The subject request in this body, for erasure, with the law it rests on.

    Raises ``MalformedJson``, ``InvalidRequest``, ``UnsupportedRequestType``.
    """
    asked = submission.validated(lambda: SubjectRequest.model_validate_json(body))
    if asked.subject_request_type is not RequestType.ERASURE:
        detail = "Send erasure; GET /opendsr/v2/discovery lists what is supported."
        raise errors.UnsupportedRequestType(
            [_field("/subject_request_type", "unsupported_request_type", detail)]
        )
    if asked.regulation is not None:
        return asked
    if names is not OPENGDPR:
        raise errors.InvalidRequest([_field("/regulation", "missing", "This field is required.")])
    # The first version knew only one law.
    return asked.model_copy(update={"regulation": Law.GDPR})


def request_in(asked: SubjectRequest, domain: str) -> Submission:
    """What is to be forgotten and its pictures, as if it had come to ``POST /unlearn``.

    Raises ``InvalidRequest``, ``UnknownMethod``, ``InvalidSamples``.
    """
    entry = asked.extensions.get(domain)
    if not isinstance(entry, dict):
        code = "missing" if entry is None else "dict_type"
        detail = f"Say what to forget: an object under {domain}, with model, target and samples."
        raise errors.InvalidRequest([_field("/extensions", code, detail)])
    with under(domain):
        return _submission(asked, entry)


def _submission(asked: SubjectRequest, entry: dict[str, Any]) -> Submission:
    wrong = [
        _field(f"/{name}", "extra_forbidden", "Leave this field out here.")
        for name in NOT_IN_EXTENSION
        if name in entry
    ]
    if wrong:
        raise errors.InvalidRequest(wrong)
    own = {"regulation": asked.regulation, "subject_request_id": asked.subject_request_id}
    whole = submission.validated(lambda: UnlearnRequestWithImages.model_validate(entry | own))
    submitted = submission.with_images(whole)
    counts.check(submitted.request, len(submitted.samples), len(submitted.probe_samples))
    return submitted


@contextmanager
def under(domain: str) -> Iterator[None]:
    """What is found wrong with our request is told where it lies in the subject request."""
    try:
        yield
    except errors.InvalidRequest as exc:
        refused = type(exc)(
            [
                problem.model_copy(update={"pointer": f"/extensions/{domain}{problem.pointer}"})
                for problem in exc.fields
            ],
            exc.headers,
        )
    else:
        return
    raise refused


def _field(pointer: str, code: str, detail: str) -> FieldProblem:
    return FieldProblem(pointer=pointer, code=code, detail=detail)
