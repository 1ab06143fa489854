"""``/patches``: the manifest, the patch file, and whole weights with the patch in place."""

from __future__ import annotations

import functools
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from api_schemas.patches import PatchView
from registry import models, patches
from registry.errors import BlobMissing, PatchNotFound
from service import answers, documentation, downloads, errors, etags, views, weights
from service.access import Downloader, Reader
from service.parameters import IfNoneMatch, PatchId, RangeHeader
from service.parts import PartsOf

router = APIRouter(tags=["patches"])

_FILE_PROBLEMS: Final = (PatchNotFound, errors.RangeNotSatisfiable, BlobMissing)


@router.get(
    "/patches/{patch_id}",
    response_model=PatchView,
    summary="A patch and its manifest",
    responses=documentation.tagged() | documentation.problems_of(PatchNotFound),
)
def read_patch(
    parts: PartsOf, caller: Reader, patch_id: PatchId, if_none_match: IfNoneMatch = None
) -> Response:
    """What the patch changes, on what, why, and how well it did."""
    with parts.database.reading() as session:
        patch = patches.get(session, patch_id, caller.tenant)
    return answers.json_answer(views.patch_view(patch), if_none_match=if_none_match)


@router.head(
    "/patches/{patch_id}/patch.safetensors",
    summary="The head of the patch file",
    responses=documentation.file_head() | documentation.problems_of(PatchNotFound, BlobMissing),
    response_class=Response,
)
@router.get(
    "/patches/{patch_id}/patch.safetensors",
    summary="The patch file",
    responses=documentation.file(downloads.BINARY) | documentation.problems_of(*_FILE_PROBLEMS),
    response_class=Response,
)
def read_patch_file(
    request: Request,
    parts: PartsOf,
    caller: Downloader,
    patch_id: PatchId,
    if_none_match: IfNoneMatch = None,
    range_header: RangeHeader = None,
) -> Response:
    """The new values, in the safetensors layout; the ETag is the file's sha256."""
    with parts.database.reading() as session:
        patch = patches.get(session, patch_id, caller.tenant)
    download = downloads.Download(
        etag=etags.strong(patch.sha256),
        # Asked of the store, not of the row: what is missing must show before the first byte.
        size=parts.blobs.size(patch.sha256),
        media_type=downloads.BINARY,
        file_name=f"{patch.id}.safetensors",
        read=functools.partial(
            downloads.read_file, functools.partial(parts.blobs.open, patch.sha256)
        ),
    )
    return downloads.respond(download, request)


@router.head(
    "/patches/{patch_id}/weights",
    summary="The head of the patched weights",
    responses=documentation.file_head()
    | documentation.problems_of(
        PatchNotFound,
        BlobMissing,
        errors.ArtifactUnusable,
    ),
    response_class=Response,
)
@router.get(
    "/patches/{patch_id}/weights",
    summary="Patched weights",
    responses=documentation.file(downloads.BINARY, downloads.TAR)
    | documentation.problems_of(
        *_FILE_PROBLEMS,
        errors.ArtifactUnusable,
    ),
    response_class=Response,
)
def read_weights(
    request: Request,
    parts: PartsOf,
    caller: Downloader,
    patch_id: PatchId,
    if_none_match: IfNoneMatch = None,
    range_header: RangeHeader = None,
) -> Response:
    """The model's weights with every patch of the line up to this one in place.

    One safetensors file; a tar of the whole folder where the model has several. A candidate that
    the gate refused stands on its parent's line and nothing else.
    """
    with parts.database.reading() as session:
        patch = patches.get(session, patch_id, caller.tenant)
        model = models.get(session, patch.model_id)
        line = models.lineage(session, patch.model_id, patch.manifest.model.parent)
    return downloads.respond(weights.patched(parts, model, [*line, patch], patch.id), request)
