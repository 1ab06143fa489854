"""Whole weights with a line of patches in place, streamed."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

from patches.errors import PatchError
from patches.splice import PatchSource
from patches.weights import patched_weights
from registry.models import Model
from registry.patches import Patch
from service import downloads, errors, etags
from service.parts import Parts


def patched(parts: Parts, model: Model, line: Sequence[Patch], name: str) -> downloads.Download:
    """The model's weights with the line's patches in place; with none, as they were registered.

    The file is called after the model and ``name``. Raises ``ArtifactUnusable``, ``BlobMissing``.
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
        file_name=f"{model.record.id}-{name}{Path(weights.name).suffix}",
        read=weights.iter_range,
    )
