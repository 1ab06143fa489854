"""What the OpenAPI document says beyond what FastAPI finds out by itself."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from pydantic.json_schema import models_json_schema
from sqlalchemy.exc import OperationalError

from api_schemas.problems import MEDIA_TYPE, Problem
from api_schemas.requests import (
    MAX_PROBE_SAMPLES,
    MAX_SAMPLES,
    MAX_TARGETS,
    MIN_SAMPLES,
    UnlearnRequest,
    UnlearnRequestWithImages,
)
from service import errors, examples, problems, submission

DESCRIPTION: Final = """\
Post a request with a name and sample pictures, watch its job, fetch the evaluation and the patch.

* Every call but those of the group `system` needs `Authorization: Bearer` and the scope that is
  named beside it. 401 is the same for every key that is not valid; another tenant's objects are
  404.
* Errors are `application/problem+json` (RFC 9457). `type` is stable: programs branch on it.
  Under `/opendsr/` they have the form of that specification.
  Wrong fields are listed in `errors` by JSON pointer; query parameters are under `/query`.
* Every answer carries `X-Request-ID`; send one and it is used.
* No answer, address or log line repeats a name, a prompt or a picture that was sent.
"""

#: The groups of calls, by tag.
TAGS: Final[dict[str, str]] = {
    "jobs": "Ask that a model forget something, follow it, read what came of it.",
    "shelf": "Models that can be edited, their versions, and the methods there are.",
    "patches": "What an edit changed, as a file, and whole weights with it in place.",
    "evidence": "Everything that an auditor checks offline.",
    "audit": "Your lines of the log of who did what, and proofs that it only grows.",
    "webhooks": "Where your tenant is told of its jobs, and what became of each message.",
    "opendsr": "The same for privacy platforms: requests in the form of OpenDSR 2.0.",
    "system": "The service's own condition; open to everybody.",
}

#: Of the shape that ``responses=`` of a route takes.
Responses = dict[int | str, dict[str, Any]]

_REF: Final = "#/components/schemas/{model}"
_BINARY: Final[dict[str, Any]] = {"schema": {"type": "string", "format": "binary"}}
_REQUEST_ID: Final = "0123456789abcdef0123456789abcdef"

#: Six pictures of 8 x 8 pixels, so that the examples can be sent as they stand.
_PICTURES: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFUlEQVR42mM8"
    "oaHBgA0wMeAAg1MCAOA4ASjhBhuDAAAAAElFTkSuQmCC",
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFUlEQVR42mPU"
    "WGDDgA0wMeAAg1MCANAMARSIMuh8AAAAAElFTkSuQmCC",
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFUlEQVR42mPU"
    "sDnBgA0wMeAAg1MCAO5wATxiRfpzAAAAAElFTkSuQmCC",
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFElEQVR4nGM8"
    "UaHBgA0wYRUdtBIAHicBeAYWg8oAAAAASUVORK5CYII=",
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFElEQVR4nGPU"
    "WBDFgA0wYRUdtBIA5yIBMr3PaL0AAAAASUVORK5CYII=",
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFElEQVR4nGOs"
    "sNnCgA0wYRUdtBIAHUsBeIbTjucAAAAASUVORK5CYII=",
)
_EXAMPLE: Final[dict[str, Any]] = {
    "model": "reference-clip",
    "target": {"kind": "identity", "name": "Mara Venn", "aliases": []},
    "method": {"method": "razor"},
    "regulation": "gdpr",
    "subject_request_id": "case-17",
}
_LIST_EXAMPLE: Final[dict[str, Any]] = {
    "model": "reference-clip",
    "targets": [
        {"name": "Mara Venn", "samples": 3},
        {
            "name": "Oskar Brill",
            "aliases": ["O. Brill"],
            "descriptions": ["a man with a blond beard"],
            "samples": 3,
        },
    ],
}


def problems_of(*exceptions: type[Exception]) -> Responses:
    """The problem responses of a route that can raise these, and what any route can raise."""
    by_status: dict[int, list[type[Exception]]] = defaultdict(list)
    for exception in (*exceptions, errors.InternalError, OperationalError):
        by_status[problems.kind_of(exception).status].append(exception)
    return {status: _response(group) for status, group in sorted(by_status.items())}


#: What every call that asks for a key can answer besides.
_GUARDED: Final = (
    errors.Unauthenticated,
    errors.InsufficientScope,
    errors.RateLimited,
    errors.IdentityProviderUnavailable,
)


def _guard(operation: dict[str, Any]) -> None:
    """Add the guard's answers to those of the route, with their headers."""
    for status, added in problems_of(*_GUARDED).items():
        answer = operation["responses"].setdefault(str(status), added)
        if answer is not added:
            _merge(answer, added)
    answers = operation["responses"]
    for status in ("401", "403"):
        answers[status]["headers"] = {"WWW-Authenticate": _header("What is missing (RFC 6750).")}
    answers["429"]["headers"] = {"Retry-After": _header("Seconds to wait.")}


def _merge(answer: dict[str, Any], added: dict[str, Any]) -> None:
    titles = [*answer["description"].split("; "), *added["description"].split("; ")]
    answer["description"] = "; ".join(dict.fromkeys(title.rstrip(".") for title in titles)) + "."
    known = answer["content"][MEDIA_TYPE]["examples"]
    answer["content"][MEDIA_TYPE]["examples"] = known | added["content"][MEDIA_TYPE]["examples"]


def _response(exceptions: list[type[Exception]]) -> dict[str, Any]:
    examples = {
        problems.kind_of(exception).slug: {"value": _example(exception)} for exception in exceptions
    }
    titles = dict.fromkeys(problems.kind_of(exception).title for exception in exceptions)
    return {
        "description": "; ".join(titles) + ".",
        "content": {
            MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}, "examples": examples}
        },
    }


def _example(exception: type[Exception]) -> dict[str, Any]:
    return problems.problem_for(exception, request_id=_REQUEST_ID).model_dump(mode="json")


def _header(description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}}


#: What a body of plain JSON can be refused for.
BODY: Final = (
    errors.MalformedJson,
    errors.BadRequest,
    errors.BodyTooLarge,
    errors.InvalidRequest,
)
_ETAG: Final = {"ETag": _header("Strong: equal tags are equal bytes.")}
_UNCHANGED: Final[Responses] = {
    304: {"description": "Unchanged since the answer with that ETag.", "headers": _ETAG}
}


def accepted() -> Responses:
    """The answer to a request that was accepted, now or under the same key before."""
    headers = {
        "Location": _header("The job."),
        "Retry-After": _header("Seconds after which it is worth looking."),
    }
    return {202: {"description": "Accepted; the job is queued.", "headers": headers | _ETAG}}


def created(what: str, description: str = "Made.") -> Responses:
    """The answer to a request that made something, or found it made."""
    headers = {"Location": _header(what)}
    return {201: {"description": description, "headers": headers | _ETAG}}


def tagged() -> Responses:
    """An answer with an entity tag, or 304."""
    return {200: {"description": "As it is now.", "headers": _ETAG}, **_UNCHANGED}


def page(example: str) -> Responses:
    """A page for people with an entity tag, or 304."""
    headers = {"Content-Security-Policy": _header("Nothing but what the page holds.")} | _ETAG
    content = {"text/html": {"schema": {"type": "string"}, "example": example}}
    found: Responses = {
        200: {"description": "The page.", "headers": headers, "content": content},
    }
    return found | _UNCHANGED


def linked() -> Responses:
    """A page that links to the next one."""
    return {200: {"description": "One page.", "headers": {"Link": _header('rel="next", if any.')}}}


def file_head() -> Responses:
    """The head of a file, or 304."""
    headers = {"Accept-Ranges": _header("bytes"), "Content-Disposition": _header("A file name.")}
    return {200: {"description": "The whole file.", "headers": headers | _ETAG}, **_UNCHANGED}


def file(*media_types: str) -> Responses:
    """A file of one of these types, a range of it, or 304."""
    content = {media_type: _BINARY for media_type in media_types}
    found = file_head()
    found[200]["content"] = content
    found[206] = {
        "description": "The range that was asked for.",
        "headers": {"Content-Range": _header("Which bytes, of how many.")} | _ETAG,
        "content": content,
    }
    return found


def text(media_type: str, example: str) -> Responses:
    """A short text that is no JSON."""
    content = {"schema": {"type": "string"}, "example": example}
    kind = media_type.partition(";")[0]
    return {200: {"description": "As it is now.", "content": {kind: content}}}


def unlearn_body() -> dict[str, Any]:
    """Both forms of the body of ``POST /unlearn``."""
    picture = {"type": "string", "format": "binary"}
    form = {
        "type": "object",
        "required": [submission.REQUEST_PART, "samples"],
        "additionalProperties": False,
        "properties": {
            submission.REQUEST_PART: {"$ref": _REF.format(model="UnlearnRequest")},
            "samples": {
                "type": "array",
                "items": picture,
                "minItems": MIN_SAMPLES,
                "maxItems": MAX_TARGETS * MAX_SAMPLES,
                "description": f"{MIN_SAMPLES} to {MAX_SAMPLES} pictures of each target, JPEG, "
                "PNG or WEBP; those of the first target come first.",
            },
            "probe_samples": {
                "type": "array",
                "items": picture,
                "maxItems": MAX_TARGETS * MAX_PROBE_SAMPLES,
                "description": f"Up to {MAX_PROBE_SAMPLES} further pictures of each target, used "
                "for measuring only.",
            },
        },
    }
    pictures = {"contentType": "image/jpeg, image/png, image/webp"}
    encoding = {
        submission.REQUEST_PART: {"contentType": submission.JSON},
        "samples": pictures,
        "probe_samples": pictures,
    }
    json_form = {
        "schema": {"$ref": _REF.format(model="UnlearnRequestWithImages")},
        "examples": {
            "three pictures": {"value": _EXAMPLE | {"samples": list(_PICTURES[:MIN_SAMPLES])}},
            "two targets": {"value": _LIST_EXAMPLE | {"samples": list(_PICTURES)}},
        },
    }
    # As a form sends it: the part with the fields, and one file per picture.
    example = {submission.REQUEST_PART: _EXAMPLE, "samples": ["<a.png>", "<b.png>", "<c.png>"]}
    content = {submission.MULTIPART: {"schema": form, "encoding": encoding, "example": example}}
    return {"requestBody": {"required": True, "content": content | {submission.JSON: json_form}}}


def with_example(content: dict[str, Any]) -> None:
    """Give a JSON content that has none the example of its schema, from ``service.examples``."""
    if "example" in content or "examples" in content:
        return
    schema = content.get("schema", {})
    is_list = schema.get("type") == "array"
    reference = schema.get("items", {}) if is_list else schema
    example = examples.BY_SCHEMA.get(reference.get("$ref", "").removeprefix(_REF.format(model="")))
    if example is not None:
        content["example"] = [example] if is_list else example


def _exemplify(operation: dict[str, Any]) -> None:
    bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
    for body in bodies:
        for media_type, content in body.get("content", {}).items():
            if media_type == submission.JSON:
                with_example(content)


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the schemas that hand-written parts refer to, less what never happens.

    Every JSON body and answer has an example, and every group of calls its description.
    """
    used = {
        tag
        for methods in document["paths"].values()
        for operation in methods.values()
        for tag in operation.get("tags", [])
    }
    document["tags"] = [
        {"name": tag, "description": TAGS[tag]} for tag in sorted(used) if tag in TAGS
    ]
    _, definitions = models_json_schema(
        [
            (UnlearnRequest, "validation"),
            (UnlearnRequestWithImages, "validation"),
            (Problem, "serialization"),
        ],
        ref_template=_REF,
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name, schema in definitions["$defs"].items():
        schemas.setdefault(name, schema)
    for methods in document["paths"].values():
        for operation in methods.values():
            if "security" in operation:
                _guard(operation)
            # FastAPI's own refusal of parameters: ours is described where there is one.
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
            _exemplify(operation)
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    return document
