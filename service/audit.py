"""``/audit``: the tenant's lines of the log, and proofs that the log only grows."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from api_schemas.audit import AuditPage, ConsistencyProof, InclusionProof
from api_schemas.base import Input
from registry import audit
from registry.errors import LineNotFound, TreeSizeInvalid
from service import answers, documentation, downloads, errors, etags, examples, signing
from service.access import Auditor
from service.parameters import IfNoneMatch, LineIndex
from service.parts import PartsOf

router = APIRouter(prefix="/audit", tags=["audit"])

_MOST: Final = 2**53


class Listing(Input):
    """Which lines, and how many at once."""

    after: int | None = Field(
        default=None, ge=0, lt=_MOST, description="Lines with a larger index only."
    )
    limit: int = Field(default=100, ge=1, le=1000)


class TreeSize(Input):
    """Which tree the proof leads to."""

    size: int | None = Field(
        default=None,
        ge=1,
        lt=_MOST,
        description="Of a checkpoint; the present one's when left out.",
    )


class Sizes(Input):
    """Two checkpoints of the log, by their sizes."""

    first: int = Field(
        default=0, alias="from", ge=0, lt=_MOST, description="The earlier one's size."
    )
    second: int | None = Field(
        default=None,
        alias="to",
        ge=0,
        lt=_MOST,
        description="The later one's size; the present one when left out.",
    )


@router.get(
    "",
    response_model=AuditPage,
    summary="Lines of the audit log, oldest first",
    responses=documentation.linked() | documentation.problems_of(errors.InvalidRequest),
)
def list_lines(parts: PartsOf, caller: Auditor, query: Annotated[Listing, Query()]) -> Response:
    """Your tenant's lines. Indexes count every line of the log, so others' lie between them."""
    with parts.database.reading() as session:
        found, following = audit.page(
            session, tenant=caller.tenant, after=query.after, limit=query.limit
        )
    headers = {}
    if following is not None:
        asked = {"after": following, "limit": query.limit}
        headers["link"] = f'</audit?{urlencode(asked)}>; rel="next"'
    page = AuditPage(items=[entry.line() for entry in found], next=following)
    return answers.json_answer(page, headers=headers)


@router.get(
    "/checkpoint",
    summary="The log's signed size and tree head",
    responses=documentation.text(downloads.NOTE, examples.NOTE)
    | documentation.problems_of(errors.SigningKeyUnusable),
    response_class=Response,
)
def read_checkpoint(parts: PartsOf, caller: Auditor) -> Response:
    """A signed note; keep it: a later one must be consistent with it."""
    with parts.database.transaction() as session:
        note, _ = signing.checkpoint(parts, session)
    return Response(note, media_type=downloads.NOTE, headers={"cache-control": "no-store"})


@router.get(
    "/proof/{index}",
    response_model=InclusionProof,
    summary="That a line is in the log",
    responses=documentation.problems_of(LineNotFound, TreeSizeInvalid, errors.InvalidRequest),
)
def prove_inclusion(
    parts: PartsOf, caller: Auditor, index: LineIndex, query: Annotated[TreeSize, Query()]
) -> Response:
    """The hashes that lead from the line's leaf to the root of the tree of ``size``."""
    with parts.database.reading() as session:
        size = audit.size(session) if query.size is None else query.size
        path = audit.inclusion(session, index, size, tenant=caller.tenant)
    proof = InclusionProof(index=index, size=size, hashes=[value.hex() for value in path])
    return answers.json_answer(proof)


@router.get(
    "/consistency",
    response_model=ConsistencyProof,
    summary="That the log only grew between two checkpoints",
    responses=documentation.problems_of(TreeSizeInvalid, errors.InvalidRequest),
)
def prove_consistency(
    parts: PartsOf, caller: Auditor, query: Annotated[Sizes, Query()]
) -> Response:
    """The hashes that lead from the earlier root to the later one."""
    with parts.database.reading() as session:
        second = audit.size(session) if query.second is None else query.second
        path = audit.consistency(session, query.first, second)
    hashes = [value.hex() for value in path]
    return answers.json_answer(ConsistencyProof(first=query.first, second=second, hashes=hashes))


@router.get(
    "/key",
    summary="The public key that signs evidence",
    responses=documentation.text(downloads.PEM, examples.PEM)
    | documentation.problems_of(errors.SigningKeyUnusable),
    response_class=Response,
)
def read_key(parts: PartsOf, caller: Auditor, if_none_match: IfNoneMatch = None) -> Response:
    """The key as PEM; its ETag is the key's id, the sha256 of its DER form.

    Compare the id with one that you got on another way: a key from the service proves nothing
    against the service.
    """
    public = signing.key(parts).public
    headers = {"etag": etags.strong(public.id), "cache-control": "private, no-cache"}
    if etags.none_match_fails(if_none_match, headers["etag"]):
        return Response(status_code=304, headers=headers)
    headers["content-disposition"] = 'attachment; filename="key.pem"'
    return Response(public.pem, media_type=downloads.PEM, headers=headers)
