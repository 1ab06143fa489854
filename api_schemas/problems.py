"""Errors over HTTP: ``application/problem+json`` (RFC 9457) with stable types."""

from __future__ import annotations

from api_schemas.base import Output

MEDIA_TYPE = "application/problem+json"


class FieldProblem(Output):
    """One wrong field: ``pointer`` is a JSON pointer into the request (RFC 6901)."""

    pointer: str
    code: str
    detail: str


class Problem(Output):
    """What went wrong and what to do next. ``type`` is stable; programs branch on it."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    retryable: bool
    errors: list[FieldProblem]
