"""What a patched folder keeps so that it can become what it was: ``.razor/undo``.

An undo is a patch whose values are the old ones: ``patch.safetensors`` and an ``undo.json`` with
the entries, digests swapped. A folder patched twice keeps the first undo below the second, in
``.razor/undo/earlier``, so reverting goes back one step at a time.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from api_schemas.patches import FORMAT_VERSION, TensorEntry
from patches import container, digests, slices
from patches.errors import EntriesDisagree, MalformedContainer, UnsafePath
from patches.folder import (
    FILE_NAME,
    METADATA,
    by_tensor,
    canonical_json,
    check_digest,
    check_entries,
    entry_key,
)
from patches.splice import PatchedFile, PatchSource

STATE_FOLDER: Final = ".razor"
UNDO_FOLDER: Final = f"{STATE_FOLDER}/undo"
UNDO_NAME: Final = "undo.json"
_EARLIER: Final = "earlier"
_SPENT: Final = "undo.spent"
_MAX_RECORD_BYTES: Final = 64 << 20


class UndoRecord(BaseModel):
    """``undo.json``: like a manifest, of what it takes to go back."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: Literal[1]
    patch_sha256: str
    patch_bytes: int
    tensors: list[TensorEntry]


@dataclass(frozen=True, slots=True)
class Undo:
    """Undo data that was read and checked."""

    record: UndoRecord
    file: Path

    @property
    def source(self) -> PatchSource:
        """The undo as a patch, for splicing."""
        return PatchSource(self.record.tensors, self.file)


def undo_entries(patches: Sequence[Sequence[TensorEntry]]) -> list[TensorEntry]:
    """What must be kept to take back these patches, put on in order.

    Only the parts that change; the whole tensor where patches change different parts of it.
    Raises EntriesDisagree where two tensors would share a key.
    """
    touched: dict[tuple[str, str], list[list[TensorEntry]]] = {}
    for entries in patches:
        for place, group in by_tensor(entries).items():
            touched.setdefault(place, []).append(group)
    files = Counter(tensor for _, tensor in touched)
    found: list[TensorEntry] = []
    for (file, tensor), groups in touched.items():
        parts = [sorted(entry.slice or [] for entry in group) for group in groups]
        boxes = [entry.slice for entry in groups[0]] if parts.count(parts[0]) == len(parts) else []
        first, last = groups[0][0], groups[-1][0]
        found += [
            first.model_copy(
                update={
                    "key": entry_key(tensor, box, file=file if files[tensor] > 1 else None),
                    "slice": box,
                    "sha256_before": last.sha256_after,
                    "sha256_after": first.sha256_before,
                }
            )
            for box in boxes or [None]
        ]
    twice = [key for key, count in Counter(entry.key for entry in found).items() if count > 1]
    if twice:
        raise EntriesDisagree(twice[0], "two tensors would share this key")
    return found


def undo_bytes(entries: Sequence[TensorEntry]) -> int:
    """The size of the values that an undo keeps."""
    return sum(
        container.tensor_bytes(entry.dtype, slices.box_shape(entry.shape, entry.slice))
        for entry in entries
    )


def write_undo(
    target: Path, checkpoint: Path, entries: Sequence[TensorEntry], files: Mapping[str, PatchedFile]
) -> None:
    """Write the undo of ``entries`` below ``target``, with the checkpoint's values.

    ``files`` are the checkpoint's own files, unpatched. An undo that the checkpoint already keeps
    moves one step down. Values are read one at a time.
    """
    folder = target / UNDO_FOLDER
    folder.mkdir(parents=True)
    values = {
        entry.key: container.TensorData(
            dtype=entry.dtype,
            shape=slices.box_shape(entry.shape, entry.slice),
            data=_OldValues(files[entry.file], entry),
        )
        for entry in entries
    }
    file = folder / FILE_NAME
    container.write(file, values, METADATA)
    record = UndoRecord(
        format_version=FORMAT_VERSION,
        patch_sha256=digests.file_digest(file),
        patch_bytes=file.stat().st_size,
        tensors=list(entries),
    )
    (folder / UNDO_NAME).write_bytes(canonical_json(record.model_dump(mode="json")))
    copy_earlier(checkpoint / UNDO_FOLDER, folder / _EARLIER)


def read_undo(folder: Path) -> Undo | None:
    """The checked undo of a patched folder, or None where it keeps none.

    Raises MalformedContainer, DigestMismatch and EntriesDisagree for a damaged one, UnsafePath for
    one that is reached through a link.
    """
    _refuse_links(folder)
    _finish_removal(folder)
    undo = folder / UNDO_FOLDER
    path, file = undo / UNDO_NAME, undo / FILE_NAME
    if not path.is_file() or not file.is_file():
        return None
    if path.stat().st_size > _MAX_RECORD_BYTES:
        raise MalformedContainer("it is larger than 64 MiB", name=UNDO_NAME)
    try:
        record = UndoRecord.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise MalformedContainer("it breaks its schema", name=UNDO_NAME) from error
    check_digest(file, sha256=record.patch_sha256, size=record.patch_bytes)
    check_entries(record.tensors, container.read_header(file))
    return Undo(record, file)


def _refuse_links(folder: Path) -> None:
    """No part of the undo leads elsewhere: it is renamed and removed, and not by somebody's link.

    Raises UnsafePath.
    """
    state, undo = folder / STATE_FOLDER, folder / UNDO_FOLDER
    spent = state / _SPENT
    inside = [undo / name for name in (UNDO_NAME, FILE_NAME, _EARLIER)]
    for place in (state, undo, spent, *inside, spent / _EARLIER):
        if place.is_symlink():
            raise UnsafePath(place.relative_to(folder).as_posix(), "it is a symbolic link")


def copy_earlier(undo: Path, target: Path) -> None:
    """Copy an undo folder where there is one."""
    if undo.is_dir():
        shutil.copytree(undo, target, symlinks=True)


def earlier(folder: Path) -> Path:
    """Where the undo of the step before the last one is kept."""
    return folder / UNDO_FOLDER / _EARLIER


def remove_undo(folder: Path) -> None:
    """Drop the newest undo; the one below it, if any, takes its place. Repeatable after a crash."""
    (folder / UNDO_FOLDER).rename(folder / STATE_FOLDER / _SPENT)
    _finish_removal(folder)


def _finish_removal(folder: Path) -> None:
    state = folder / STATE_FOLDER
    spent = state / _SPENT
    if not spent.is_dir():
        return
    if (spent / _EARLIER).is_dir():
        (spent / _EARLIER).rename(folder / UNDO_FOLDER)
    shutil.rmtree(spent)
    if not any(state.iterdir()):
        state.rmdir()


@dataclass(frozen=True, slots=True)
class _OldValues:
    """The values that an entry replaces, read when they are written."""

    file: PatchedFile
    entry: TensorEntry

    def __call__(self) -> bytes:
        tensor = self.file.tensor(self.entry.tensor)
        whole = b"".join(tensor.iter_range(0, tensor.size))
        if self.entry.slice is None:
            return whole
        return slices.take(
            whole, dtype=self.entry.dtype, shape=self.entry.shape, box=self.entry.slice
        )
