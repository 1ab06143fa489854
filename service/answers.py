"""Answers: serialised once, tagged, never cached without asking again."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel
from starlette.responses import Response

from service import etags


def json_answer(
    view: BaseModel,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    if_none_match: str | None = None,
) -> Response:
    """The view as JSON with a strong entity tag, or 304 when the caller has these very bytes."""
    body = view.model_dump_json().encode()
    return tagged(
        body, "application/json", status=status, headers=headers, if_none_match=if_none_match
    )


def tagged(
    body: bytes,
    media_type: str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    if_none_match: str | None = None,
) -> Response:
    """The body with a strong entity tag, or 304 when the caller has these very bytes."""
    etag = etags.of_body(body)
    sent = {"etag": etag, "cache-control": "private, no-cache", **(headers or {})}
    if etags.none_match_fails(if_none_match, etag):
        return Response(status_code=304, headers=sent)
    return Response(body, status_code=status, headers=sent, media_type=media_type)
