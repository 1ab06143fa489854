"""``/models/{id}/versions``: a model's line, the weights of each version, taking one back."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from api_schemas.decisions import Revocation, Revoked
from api_schemas.shelf import VersionList
from registry import models, revoking
from registry.errors import (
    BaseNotRevocable,
    BlobMissing,
    ModelNotFound,
    RevocationBlocked,
    VersionNotFound,
    VersionRevoked,
    VersionWithdrawn,
)
from service import answers, documentation, downloads, errors, weights
from service.access import Admin, Downloader, Reader
from service.parameters import IfNoneMatch, ModelId, RangeHeader, VersionNumber
from service.parts import PartsOf, now

router = APIRouter(tags=["shelf"])

_HEAD_PROBLEMS: Final = (
    ModelNotFound,
    VersionNotFound,
    VersionRevoked,
    BlobMissing,
    errors.ArtifactUnusable,
)


@router.get(
    "/models/{model_id}/versions",
    response_model=VersionList,
    summary="A model's versions",
    responses=documentation.problems_of(ModelNotFound),
)
def list_versions(parts: PartsOf, caller: Reader, model_id: ModelId) -> Response:
    """Version 0 is the weights as registered; each later one adds a patch to its parent.

    Revoked versions stay in the list; the others are the line. Every tenant sees that a version is
    there, and only its own jobs and patches by id.
    """
    with parts.database.reading() as session:
        found = models.versions(session, model_id, caller.tenant)
    return answers.json_answer(VersionList(items=found))


@router.head(
    "/models/{model_id}/versions/{number}/weights",
    summary="The head of a version's weights",
    responses=documentation.file_head() | documentation.problems_of(*_HEAD_PROBLEMS),
    response_class=Response,
)
@router.get(
    "/models/{model_id}/versions/{number}/weights",
    summary="A version's weights",
    responses=documentation.file(downloads.BINARY, downloads.TAR)
    | documentation.problems_of(*_HEAD_PROBLEMS, errors.RangeNotSatisfiable),
    response_class=Response,
)
def read_version_weights(
    request: Request,
    parts: PartsOf,
    _: Downloader,
    model_id: ModelId,
    number: VersionNumber,
    if_none_match: IfNoneMatch = None,
    range_header: RangeHeader = None,
) -> Response:
    """The model's weights at this version: version 0 as registered, else with its line's patches.

    One safetensors file; a tar of the whole folder where the model has several. A version may
    stand on several tenants' patches: models are the operator's and every tenant is served by the
    same one, so whoever may download patches may download these weights. Whose patches are in them
    is not told. A revoked version is answered with 410; the patch that made it still gives its
    weights, to the tenant whose patch it is.
    """
    with parts.database.reading() as session:
        model = models.get(session, model_id)
        if models.version(session, model_id, number).revoked_at is not None:
            raise VersionRevoked(model_id, number)
        line = models.lineage(session, model_id, number)
    found = weights.patched(parts, model, line, f"version-{number}")
    return downloads.respond(found, request)


@router.post(
    "/models/{model_id}/versions/{number}/revoke",
    response_model=Revoked,
    summary="Take a version back",
    responses=documentation.problems_of(
        ModelNotFound,
        VersionNotFound,
        BaseNotRevocable,
        VersionWithdrawn,
        RevocationBlocked,
        *documentation.BODY,
    ),
)
def revoke_version(
    parts: PartsOf, caller: Admin, model_id: ModelId, number: VersionNumber, body: Revocation
) -> Response:
    """Take a version that a job of your tenant made out of the model's line.

    The line ends before it at once. What stood on it goes too, because it was made and judged on
    weights with this version in them; each of those requests runs again by itself where its
    pictures are still there, and has to be posted again where they are not. ``affected`` tells of
    each: until then the model knows those targets. Sending it twice is harmless.
    """
    with parts.database.transaction() as session:
        revoked = revoking.revoke(
            session,
            model_id,
            number,
            **caller.name(),
            reason=body.reason,
            stored=parts.blobs.exists,
            now=now(),
        )
    return answers.json_answer(revoked)
