"""A whole patched checkpoint as one download: its weights file, or a tar of the folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeAlias

from patches import tars
from patches.errors import NotACheckpoint
from patches.paths import regular_files
from patches.segments import FileRange, Joined, Part
from patches.splice import PatchedFile, PatchSource, check_files

WEIGHTS_SUFFIX: Final = ".safetensors"


class PatchedFolder(Joined):
    """A checkpoint folder with patches in place, as an uncompressed tar of known size.

    Deterministic: names sorted, times and owners zero, dot names left out (they are outside the
    checkpoint's digest). Any part of it can be read without the rest. Raises what
    :class:`PatchedFile` raises, NotACheckpoint and UnsafePath.
    """

    media_type = "application/x-tar"

    def __init__(self, checkpoint: Path, patches: Sequence[PatchSource]) -> None:
        self.name = "weights.tar"
        edited = set(check_files(checkpoint, patches))
        files: list[tuple[str, Part]] = []
        for name, path in regular_files(checkpoint):
            if name in edited:
                files.append((name, PatchedFile(path, patches, name=name)))
            else:
                files.append((name, FileRange(path, 0, path.stat().st_size)))
        body = tars.members(files)
        super().__init__([body, tars.end(body.size)])


class PatchedWeights(PatchedFile):
    """The only weights file of a checkpoint, with patches in place."""

    media_type = "application/octet-stream"


Weights: TypeAlias = PatchedWeights | PatchedFolder


def patched_weights(checkpoint: Path, patches: Sequence[PatchSource]) -> Weights:
    """What a requester downloads: the weights file where there is one, else a tar of the folder.

    The result has ``name`` (a path relative to the checkpoint), ``media_type``, ``size`` and
    ``iter_range``. Raises NotACheckpoint
    when the folder holds no ``.safetensors`` file, and what the two classes raise.
    """
    check_files(checkpoint, patches)
    weights = [file for file in regular_files(checkpoint) if file[0].endswith(WEIGHTS_SUFFIX)]
    if not weights:
        raise NotACheckpoint(checkpoint, f"it holds no {WEIGHTS_SUFFIX} file")
    if len(weights) > 1:
        return PatchedFolder(checkpoint, patches)
    ((name, path),) = weights
    return PatchedWeights(path, patches, name=name)
