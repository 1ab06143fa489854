"""``/patches``: the manifest, the patch file, and whole weights with the patch in place."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from api_schemas.patches import PatchView
from patches.errors import PatchError
from patches.splice import PatchSource
from patches.weights import patched_weights
from registry import models, patches
from registry.errors import BlobMissing, PatchNotFound
from registry.models import Model
from registry.patches import Patch
from service import answers, documentation, downloads, errors, etags, views
from service.access import Downloader, Reader
from service.parameters import IfNoneMatch, PatchId, RangeHeader
from service.parts import Parts, PartsOf

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
    with parts.database.transaction() as session:
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
    with parts.database.transaction() as session:
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
    with parts.database.transaction() as session:
        patch = patches.get(session, patch_id, caller.tenant)
        model = models.get(session, patch.model_id)
        line = models.lineage(session, patch.model_id, patch.manifest.model.parent)
    return downloads.respond(_patched(parts, model, [*line, patch]), request)


def _patched(parts: Parts, model: Model, line: Sequence[Patch]) -> downloads.Download:
    """The model's weights with the line's patches in place.

    Raises ``ArtifactUnusable``, ``BlobMissing``.
    """
    sources = [
        PatchSource(patch.manifest.tensors, functools.partial(parts.blobs.open, patch.sha256))
        for patch in line
    ]
    try:
        weights = patched_weights(Path(model.record.checkpoint), sources)
    except (PatchError, OSError) as exc:
        raise errors.ArtifactUnusable from exc
    # The bytes follow from these alone, so their digest is as strong as one over the bytes.
    parents = "\n".join([model.digest, *(patch.sha256 for patch in line)])
    return downloads.Download(
        etag=etags.strong(hashlib.sha256(parents.encode()).hexdigest()),
        size=weights.size,
        media_type=weights.media_type,
        file_name=f"{model.record.id}-{line[-1].id}{Path(weights.name).suffix}",
        read=weights.iter_range,
    )
