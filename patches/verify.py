"""Answers to "is this patch what it says, and what is this checkpoint?", as a list of checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from patches import container, undo
from patches.apply import check_base, part_digest
from patches.digests import PREFIX, checkpoint_digest, file_digest, folder_digest
from patches.errors import DigestMismatch, PatchError
from patches.folder import Patch, by_tensor, check_digest, check_entries, read_patch
from patches.paths import regular_files
from patches.splice import PatchedFile, PatchSource, check_files


@dataclass(frozen=True, slots=True)
class Check:
    """One question, whether the answer is good, and the answer in words."""

    name: str
    passed: bool
    detail: str


def verify(
    patch_folder: Path, checkpoint: Path | None = None, *, whole: bool = False
) -> list[Check]:
    """Every check that can be made, in order; the first that fails ends the list.

    Without a checkpoint: manifest, digest, entries. With one: whether it is the base of the patch,
    already patched, or neither (the detail names the first tensor that differs). ``whole`` asks
    besides whether the folder, patch aside, is the registered checkpoint to the last file; it
    needs a patch on version 0. Raises nothing of PatchError; what is wrong is in the answers.
    """
    steps: list[tuple[str, Callable[[], str]]] = []
    try:
        patch = read_patch(patch_folder)
    except PatchError as error:
        return [Check("manifest", False, str(error))]
    manifest = patch.manifest
    opened = f"format {manifest.format_version}, model {manifest.model.id}"
    checks = [Check("manifest", True, f"{opened}, on version {manifest.model.parent}")]
    steps.append(("patch digest", lambda: _digest(patch)))
    steps.append(("entries", lambda: _entries(patch)))
    if checkpoint is not None:
        steps.append(("checkpoint", lambda: _checkpoint(patch, checkpoint)))
        if whole:
            steps.append(("whole folder", lambda: _whole(patch, checkpoint)))
    for name, step in steps:
        try:
            checks.append(Check(name, True, step()))
        except PatchError as error:
            return [*checks, Check(name, False, str(error))]
    return checks


def _digest(patch: Patch) -> str:
    manifest = patch.manifest
    check_digest(patch.file, sha256=manifest.patch_sha256, size=manifest.patch_bytes)
    return f"sha256 {manifest.patch_sha256}, {manifest.patch_bytes} bytes"


def _entries(patch: Patch) -> str:
    entries = patch.manifest.tensors
    check_entries(entries, container.read_header(patch.file))
    return f"{len(entries)} entries for {len(by_tensor(entries))} tensors, as listed"


def _checkpoint(patch: Patch, checkpoint: Path) -> str:
    """Base or patched; else the error that says which tensor differs first."""
    source = PatchSource(patch.manifest.tensors, patch.file)
    found = _found(checkpoint, source)
    groups = by_tensor(source.tensors)
    count = f"{len(groups)} tensors"
    if groups and all(found[place] == group[0].sha256_after for place, group in groups.items()):
        return f"already patched: all {count} have their digest after"
    try:
        check_base(checkpoint, [source])
    except DigestMismatch as error:
        patched = sum(found[place] == group[0].sha256_after for place, group in groups.items())
        if patched:
            raise _partly_patched(error, patched, len(groups)) from error
        raise
    return f"the base: all {count} have their digest before; ready to apply"


def _found(checkpoint: Path, source: PatchSource) -> dict[tuple[str, str], str]:
    files = {
        name: PatchedFile(checkpoint / name, (), name=name)
        for name in check_files(checkpoint, [source])
    }
    found = {}
    for file, tensor in by_tensor(source.tensors):
        found[file, tensor] = part_digest(files[file].tensor(tensor))
    return found


def _partly_patched(first: DigestMismatch, patched: int, total: int) -> DigestMismatch:
    return DigestMismatch(
        first.subject,
        expected=first.expected,
        found=first.found,
        advice=f"{patched} of {total} tensors are patched already and this one is neither before "
        "nor after; fetch the checkpoint again and apply the patch to it",
    )


def _whole(patch: Patch, checkpoint: Path) -> str:
    expected = patch.manifest.model.checkpoint_digest
    if patch.manifest.model.parent:
        raise PatchError("cannot be told from this patch alone, it stands on a later version")
    back = undo.read_undo(checkpoint)
    if back is None:
        found = checkpoint_digest(checkpoint)
    else:
        edited = {entry.file for entry in back.record.tensors}
        found = folder_digest(
            (
                name,
                part_digest(PatchedFile(path, [back.source], name=name))
                if name in edited
                else file_digest(path),
            )
            for name, path in regular_files(checkpoint)
        )
    if found != expected:
        raise DigestMismatch(
            "the whole folder, patch aside,",
            expected=expected.removeprefix(PREFIX),
            found=found.removeprefix(PREFIX),
            advice="some other file or value differs from the checkpoint as registered",
        )
    return f"patch aside, every file is the registered checkpoint's: {found}"
