"""From changes to a patch on disk, as ``docs/patch_format.md`` says."""

from __future__ import annotations

import hashlib
import importlib.metadata
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from api_schemas.methods import Method
from api_schemas.patches import BaseModelRef, PatchManifest, Provenance, TensorEntry
from api_schemas.reports import Report
from patches import container, digests, folder
from razor.patching import Change

LIBRARIES = (
    "torch",
    "open_clip_torch",
    "transformers",
    "diffusers",
    "safetensors",
    "razor-unlearning",
)


@dataclass(frozen=True)
class Located:
    """A change with its place in the checkpoint."""

    change: Change
    file: str
    tensor: str


def write(
    out: Path,
    base: BaseModelRef,
    changes: Sequence[Located],
    method: Method,
    report: Report,
    device: str,
) -> PatchManifest:
    """Writes the patch folder ``out`` whole or not at all; equal inputs give equal bytes."""
    tensors: dict[str, container.TensorData] = {}
    entries: list[TensorEntry] = []
    files = {(located.tensor, located.file) for located in changes}
    several = {t for t, n in Counter(tensor for tensor, _ in files).items() if n > 1}
    for located in changes:
        change = located.change
        before, after = (hashlib.sha256(data).hexdigest() for data in (change.before, change.after))
        for region, part in zip(change.regions, change.parts, strict=True):
            shape = tuple(stop - start for start, stop in region.ranges)
            ranges = None if shape == change.shape else list(region.ranges)
            file = located.file if located.tensor in several else None
            key = folder.entry_key(located.tensor, ranges, file=file)
            tensors[key] = container.TensorData(change.dtype, shape, part)
            entries.append(
                TensorEntry(
                    key=key,
                    file=located.file,
                    tensor=located.tensor,
                    dtype=change.dtype,
                    shape=list(change.shape),
                    slice=ranges,
                    sha256_before=before,
                    sha256_after=after,
                )
            )
    assert report.gate is not None, "a patch is written only after it was judged"
    with tempfile.TemporaryDirectory(dir=out.parent) as work:
        patch = Path(work) / folder.FILE_NAME
        container.write(patch, tensors, folder.METADATA)
        manifest = PatchManifest(
            format_version=1,
            model=base,
            tensors=sorted(entries, key=lambda entry: entry.key),
            patch_sha256=digests.file_digest(patch),
            patch_bytes=patch.stat().st_size,
            units=report.edited,
            provenance=provenance(method, report.seed, device),
            roles=report.roles,
            metrics=report.metrics,
            gate=report.gate,
        )
        folder.write_patch(out, manifest, patch)
    return manifest


def provenance(method: Method, seed: int, device: str) -> Provenance:
    """What the result depended on besides its data."""
    return Provenance(
        method=method.model_dump(mode="json"),
        seed=seed,
        libraries={name: importlib.metadata.version(name) for name in LIBRARIES},
        device=device,
        dtype="float32",
        threads=torch.get_num_threads(),
    )
