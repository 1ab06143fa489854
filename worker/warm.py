"""The model that stays loaded between jobs, its retain set, and the version it stands at."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load

from api_schemas.shelf import ModelRecord
from razor import catalog
from razor.errors import CheckpointInvalid
from razor.gradients import parameters_of
from razor.kept import Kept
from razor.material import Earlier, Shelf, read_shelf
from razor.protocols import Family
from razor.retain import RetainSet, read_retain_set
from registry.blobs import BlobStore
from registry.models import Model
from registry.patches import Patch
from worker.known_digests import KnownDigests

log = logging.getLogger(__name__)


@dataclass
class Warm:
    """A loaded model at one version, with everything that depends on that version alone."""

    model_id: str
    digest: str
    line: tuple[str, ...]  # sha256 of the patches applied, in order
    family: Family
    shelf: Shelf
    retain_digest: str  # as it was when the shelf was read
    #: (version, place in its request) -> a target that the version forgot
    earlier: dict[tuple[int, int], Earlier] = field(default_factory=dict)
    #: (domain, mark of a deleted name) -> that name as the retain set writes it
    mentions: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)


@dataclass
class WarmCache:
    """Holds one model: a device has room for one. The same model again costs nothing.

    ``cache`` has what outlives the process, at most ``cache_bytes`` of it.
    """

    blobs: BlobStore
    cache: Path
    cache_bytes: int
    _held: Warm | None = field(default=None)

    def get(self, model: Model, line: Sequence[Patch]) -> Warm:
        """The model with the line's patches in place.

        Raises CheckpointInvalid where the folder's digest is not the registered one.
        """
        wanted = tuple(patch.sha256 for patch in line)
        held = self._held
        fits = (
            held is not None
            and (held.model_id, held.digest) == (model.record.id, model.digest)
            and wanted[: len(held.line)] == held.line
            and _retain_set(model.record).digest == held.retain_digest
        )
        if held is None or not fits:
            self._held = None  # let go of the old weights before the new ones come
            held = _load(model, KnownDigests(self.cache / "digests"))
        for patch in line[len(held.line) :]:
            _put(held.family, patch, self.blobs)
        held.line = wanted
        self._held = held
        self._keep(held)
        return held

    def _keep(self, held: Warm) -> None:
        """What is computed of the model as it stands now is kept under this version's name."""
        memory, device = held.family.memory, str(held.family.device)
        memory.version = "/".join((held.digest, *held.line, device))
        if self.cache_bytes:
            memory.kept = Kept(self.cache / "kept", self.cache_bytes, device)

    def drop(self) -> None:
        """Forget the model, after a failure that may have left it in an unknown state."""
        self._held = None


def _load(model: Model, known: KnownDigests) -> Warm:
    folder = Path(model.record.checkpoint)
    if known.checkpoint(folder) != model.digest:
        raise CheckpointInvalid(
            "the checkpoint on disk is not the one that was registered; register it anew"
        )
    log.info("loading model %s", model.record.id)
    family = catalog.load(model.record, _device(model.record))
    retain = _retain_set(model.record)
    shelf = read_shelf(retain, model.record.words(), family.sizing)
    return Warm(model.record.id, model.digest, (), family, shelf, retain.digest)


def _retain_set(record: ModelRecord) -> RetainSet:
    return read_retain_set(Path(record.retain.folder), record.domains())


def _device(record: ModelRecord) -> str:
    if record.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return record.device


@torch.no_grad()
def _put(family: Family, patch: Patch, blobs: BlobStore) -> None:
    """Writes an earlier patch's values into the model: values, so no rounding creeps in.

    What the family remembered of the weights before is gone.
    """
    parameters = dict(family.model.named_parameters())
    names = {family.place(n): parameters[n] for n in parameters_of(family.units())}
    with blobs.open(patch.sha256) as file:
        values = load(file.read())
    for entry in patch.manifest.tensors:
        target = names[entry.file, entry.tensor]
        part = tuple(slice(a, b) for a, b in entry.slice) if entry.slice else ...
        target[part] = values[entry.key].to(target.dtype)
    family.memory.clear()
