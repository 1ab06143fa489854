"""Put patches on a checkpoint folder, and take them off again.

Everything is checked before a byte is written, everything written is read back, and the result
appears under its name whole or not at all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from api_schemas.patches import TensorEntry
from patches import undo
from patches.digests import chunks_digest
from patches.errors import (
    BaseMismatch,
    DestinationExists,
    DigestMismatch,
    NotEnoughSpace,
    NothingToRevert,
    UnsafePath,
)
from patches.folder import by_tensor, check_patch, read_patch
from patches.paths import regular_files
from patches.segments import Part
from patches.splice import PatchedFile, PatchSource, check_files
from patches.staging import staged_folder, sync_folder

_SPARE_BYTES = 1 << 20  # room for folder entries and undo.json


@dataclass(frozen=True, slots=True)
class Written:
    """What was written where: the edited tensors as (file, tensor) with their digests."""

    folder: Path
    tensors: dict[tuple[str, str], str]


def apply(patch_folders: Path | Sequence[Path], checkpoint: Path, out: Path) -> Written:
    """A copy of the checkpoint with one or several patches on it, in order, ready to be used.

    The checkpoint is not touched. Raises, before anything is written: BaseMismatch (another model
    or version; it names the first tensor that differs), TensorMissing, DigestMismatch,
    EntriesDisagree, MalformedContainer, NotAPatch, UnsupportedFormat, UnsafePath,
    DestinationExists, NotEnoughSpace. On any error ``out`` does not exist.
    """
    folders = [patch_folders] if isinstance(patch_folders, Path) else list(patch_folders)
    patches = [read_patch(folder) for folder in folders]
    for patch in patches:
        check_patch(patch)
    sources = [PatchSource(patch.manifest.tensors, patch.file) for patch in patches]
    files = regular_files(checkpoint, hidden=True)
    check_destination(checkpoint, out)
    expected = check_base(checkpoint, sources)
    entries = undo.undo_entries([source.tensors for source in sources])
    _check_space(out.parent, sum(p.stat().st_size for _, p in files) + undo.undo_bytes(entries))
    names = _edited(sources)
    edited = _opened(checkpoint, names, sources)
    with staged_folder(out) as staging:
        _copy(files, edited, staging)
        undo.write_undo(staging, checkpoint, entries, _opened(checkpoint, names, ()))
        _read_back(staging, expected)
    return Written(out, expected)


def revert(folder: Path, out: Path | None = None) -> Written:
    """The folder as it was before the last patch: in place, or as a copy in ``out``.

    In place, each file is replaced atomically; interrupted, it can be run again. Raises
    NothingToRevert, BaseMismatch (the weights were changed since) and, before anything is
    written, what ``apply`` raises.
    """
    back = undo.read_undo(folder)
    if back is None:
        raise NothingToRevert(folder)
    expected = _check_patched(folder, back.source)
    files = regular_files(folder, hidden=True)
    edited = _opened(folder, _edited([back.source]), [back.source])
    if out is None:
        _check_space(folder, max((file.size for file in edited.values()), default=0))
        for name, file in edited.items():
            _replace(folder, name, file, expected)
        undo.remove_undo(folder)
        return Written(folder, expected)
    check_destination(folder, out)
    _check_space(out.parent, sum(path.stat().st_size for _, path in files))
    with staged_folder(out) as staging:
        _copy(files, edited, staging)
        undo.copy_earlier(undo.earlier(folder), staging / undo.UNDO_FOLDER)
        _read_back(staging, expected)
    return Written(out, expected)


def check_base(checkpoint: Path, sources: Sequence[PatchSource]) -> dict[tuple[str, str], str]:
    """The checkpoint is what the first patch stands on, and each patch what the next one does.

    Returns the digest of each edited tensor after the last patch, found by splicing, not believed.
    Raises BaseMismatch for the first tensor that differs, in manifest order; DigestMismatch where
    a patch's values do not give what its manifest promises; TensorMissing, UnsafePath.
    """
    check_files(checkpoint, sources)
    known: dict[tuple[str, str], str] = {}
    for count, source in enumerate(sources, start=1):
        names = _edited([source])
        groups = by_tensor(source.tensors)
        before = _opened(checkpoint, names, sources[: count - 1])
        for (file, tensor), (entry, *_) in groups.items():
            if (file, tensor) not in known:
                known[file, tensor] = part_digest(before[file].tensor(tensor))
            if known[file, tensor] != entry.sha256_before:
                raise _base_mismatch(entry, known[file, tensor])
        after = _opened(checkpoint, names, sources[:count])
        for (file, tensor), (entry, *_) in groups.items():
            known[file, tensor] = part_digest(after[file].tensor(tensor))
            if known[file, tensor] != entry.sha256_after:
                raise _promise_broken(entry, known[file, tensor])
    return known


def check_destination(source: Path, out: Path) -> None:
    """There is nothing at ``out`` and it is outside ``source``; else DestinationExists, UnsafePath.

    Makes the folder that ``out`` will lie in.
    """
    if out.is_symlink() or out.exists():
        raise DestinationExists(out)
    if out.resolve().is_relative_to(source.resolve()):
        raise UnsafePath(str(out), "the destination lies inside the folder that is copied")
    out.parent.mkdir(parents=True, exist_ok=True)


def part_digest(part: Part) -> str:
    """Sha256 of a part's bytes."""
    return chunks_digest(part.iter_range(0, part.size))


def _base_mismatch(entry: TensorEntry, found: str) -> BaseMismatch:
    return BaseMismatch(entry.tensor, file=entry.file, expected=entry.sha256_before, found=found)


def _promise_broken(entry: TensorEntry, found: str) -> DigestMismatch:
    return DigestMismatch(
        f"tensor {entry.tensor!r} in {entry.file} after the patch",
        expected=entry.sha256_after,
        found=found,
        advice="the patch does not give what its manifest promises, nothing was written; "
        "ask for the patch again",
    )


def _edited(sources: Sequence[PatchSource]) -> list[str]:
    return list(dict.fromkeys(entry.file for source in sources for entry in source.tensors))


def _opened(
    folder: Path, names: Iterable[str], sources: Sequence[PatchSource]
) -> dict[str, PatchedFile]:
    """The files of these names with the patches in place (none: as they are)."""
    return {name: PatchedFile(folder / name, sources, name=name) for name in names}


def _check_patched(folder: Path, back: PatchSource) -> dict[tuple[str, str], str]:
    """Each tensor is as the patch left it, or already as it was before (an interrupted revert)."""
    check_files(folder, [back])
    files = _opened(folder, _edited([back]), ())
    expected: dict[tuple[str, str], str] = {}
    for (file, tensor), (entry, *_) in by_tensor(back.tensors).items():
        found = part_digest(files[file].tensor(tensor))
        if found not in (entry.sha256_before, entry.sha256_after):
            raise _base_mismatch(entry, found)
        expected[file, tensor] = entry.sha256_after
    return expected


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed + _SPARE_BYTES > free:
        raise NotEnoughSpace(needed_bytes=needed + _SPARE_BYTES, free_bytes=free)


def _copy(
    files: Iterable[tuple[str, Path]], edited: Mapping[str, PatchedFile], target: Path
) -> None:
    for name, path in files:
        if name.startswith(f"{undo.UNDO_FOLDER}/"):
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if name in edited:
            _write(edited[name], target / name)
        else:
            shutil.copyfile(path, target / name)
            with (target / name).open("rb+") as file:
                os.fsync(file.fileno())
        shutil.copymode(path, target / name)


def _write(part: PatchedFile, path: Path) -> None:
    with path.open("xb") as file:
        for chunk in part.iter_range():
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def _replace(
    folder: Path, name: str, part: PatchedFile, expected: Mapping[tuple[str, str], str]
) -> None:
    path = folder / name
    fresh = path.with_name(f".{path.name}.reverting")
    fresh.unlink(missing_ok=True)  # left by an interrupted run
    try:
        _write(part, fresh)
        shutil.copymode(path, fresh)
        _check_digests(PatchedFile(fresh, (), name=name), name, expected)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    sync_folder(path.parent)


def _read_back(folder: Path, expected: Mapping[tuple[str, str], str]) -> None:
    for name in dict.fromkeys(file for file, _ in expected):
        _check_digests(PatchedFile(folder / name, (), name=name), name, expected)


def _check_digests(
    written: PatchedFile, name: str, expected: Mapping[tuple[str, str], str]
) -> None:
    for (file, tensor), digest in expected.items():
        if file == name and (found := part_digest(written.tensor(tensor))) != digest:
            raise DigestMismatch(
                f"tensor {tensor!r} in {file} read back from the disk",
                expected=digest,
                found=found,
                advice="the disk did not keep what was written, so the result was removed; "
                "check the disk and try again",
            )
