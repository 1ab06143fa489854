"""One patch as a folder: ``manifest.json`` and ``patch.safetensors``."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from api_schemas.patches import FORMAT_VERSION, PatchManifest, TensorEntry
from patches import container, digests, slices
from patches.errors import (
    DestinationExists,
    DigestMismatch,
    EntriesDisagree,
    NotAPatch,
    UnsupportedFormat,
)
from patches.paths import safe_relative
from patches.staging import staged_folder

MANIFEST_NAME: Final = "manifest.json"
FILE_NAME: Final = "patch.safetensors"
#: What every ``patch.safetensors`` says of itself.
METADATA: Final[dict[str, str]] = {"razor_patch": str(FORMAT_VERSION)}
_MAX_MANIFEST_BYTES: Final = 64 << 20
#: Far above the heads of any layer; more could not be compared with each other in good time.
MAX_SLICES: Final = 2048


@dataclass(frozen=True, slots=True)
class Patch:
    """A manifest that was read, and the file that holds its values."""

    manifest: PatchManifest
    file: Path


def entry_key(
    tensor: str, part: Sequence[tuple[int, int]] | None, *, file: str | None = None
) -> str:
    """The key of an entry: ``name`` or ``name[a:b,c:d]``.

    ``file`` goes in front, with a colon, where two files of a checkpoint hold an edited tensor of
    the same name (``unet/model.safetensors:conv_in.weight``).
    """
    ranges = "" if part is None else f"[{','.join(f'{start}:{stop}' for start, stop in part)}]"
    return f"{file}:{tensor}{ranges}" if file is not None else f"{tensor}{ranges}"


def manifest_bytes(manifest: PatchManifest) -> bytes:
    """The manifest's one true form: UTF-8 JSON, sorted keys, two spaces, a newline at the end."""
    return canonical_json(manifest.model_dump(mode="json"))


def canonical_json(document: object) -> bytes:
    """UTF-8 JSON with sorted keys, indented by two spaces, and a newline at the end."""
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8")


def read_patch(folder: Path) -> Patch:
    """The patch in a folder; its manifest is valid, its file is there. Digests: ``check_patch``.

    Raises NotAPatch and UnsupportedFormat.
    """
    file = folder / FILE_NAME
    manifest = folder / MANIFEST_NAME
    for path in (manifest, file):
        if path.is_symlink() or not path.is_file():
            raise NotAPatch(folder, f"{path.name} is missing or is a link")
    return Patch(manifest=parse_manifest(_read_limited(manifest), folder=folder), file=file)


def parse_manifest(raw: bytes, *, folder: Path = Path(MANIFEST_NAME)) -> PatchManifest:
    """A manifest from its JSON. Raises NotAPatch (it names the field) and UnsupportedFormat."""
    try:
        document = json.loads(raw.decode("utf-8"), parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise NotAPatch(folder, "the manifest is not JSON") from error
    if not isinstance(document, dict) or "format_version" not in document:
        raise NotAPatch(folder, "the manifest names no format version")
    if document["format_version"] != FORMAT_VERSION:
        raise UnsupportedFormat(document["format_version"], FORMAT_VERSION)
    try:
        return PatchManifest.model_validate_json(raw)
    except ValidationError as error:
        field = "/".join(str(part) for part in error.errors()[0]["loc"])
        raise NotAPatch(folder, f"the manifest's field {field} breaks the schema") from error


def _finite(text: str) -> float:
    """The number; NaN and infinity, also as 1e999, are no JSON and could not be written again."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("not a number")
    return number


def write_patch(folder: Path, manifest: PatchManifest, file: Path) -> Patch:
    """Write both files, all or nothing; ``file`` is copied and must be what the manifest says.

    Raises DestinationExists, DigestMismatch, EntriesDisagree.
    """
    check_patch(Patch(manifest, file))
    if folder.exists():
        raise DestinationExists(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with staged_folder(folder) as staging:
        for name, source in ((FILE_NAME, file), (MANIFEST_NAME, None)):
            with (staging / name).open("wb") as target:
                if source is None:
                    target.write(manifest_bytes(manifest))
                else:
                    with source.open("rb") as values:
                        shutil.copyfileobj(values, target)
                target.flush()
                os.fsync(target.fileno())
    return Patch(manifest, folder / FILE_NAME)


def check_patch(patch: Patch) -> None:
    """The two files belong together, entry for entry; else the first thing that is wrong.

    Raises DigestMismatch, MalformedContainer, EntriesDisagree, UnsafePath.
    """
    manifest = patch.manifest
    check_digest(patch.file, sha256=manifest.patch_sha256, size=manifest.patch_bytes)
    check_entries(patch.manifest.tensors, container.read_header(patch.file))


def check_digest(file: Path, *, sha256: str, size: int) -> None:
    """``patch.safetensors`` is the file that was promised; else DigestMismatch."""
    found = digests.file_digest(file)
    if found != sha256 or file.stat().st_size != size:
        raise DigestMismatch(file.name, expected=sha256, found=found)


def check_entries(entries: Sequence[TensorEntry], header: container.Header) -> None:
    """Manifest and file list the same keys, with fitting shapes, and no value is set twice.

    Raises EntriesDisagree, UnsafePath.
    """
    if header.metadata != METADATA:
        raise EntriesDisagree(container.METADATA, f"it should be {METADATA}")
    listed = [entry.key for entry in entries]
    for key in sorted(set(listed) ^ header.entries.keys()):
        where = "the manifest" if key in header.entries else FILE_NAME
        raise EntriesDisagree(key, f"{where} lacks it")
    for key, count in Counter(listed).items():
        if count > 1:
            raise EntriesDisagree(key, "the manifest lists it twice")
    for entry in entries:
        _check_entry(entry, header.entries[entry.key])
    for group in by_tensor(entries).values():
        _check_group(group)


def by_tensor(entries: Sequence[TensorEntry]) -> dict[tuple[str, str], list[TensorEntry]]:
    """The entries by (file, tensor), both in their first order."""
    groups: dict[tuple[str, str], list[TensorEntry]] = defaultdict(list)
    for entry in entries:
        groups[entry.file, entry.tensor].append(entry)
    return dict(groups)


def _check_entry(entry: TensorEntry, stored: container.Entry) -> None:
    safe_relative(entry.file)
    names = {entry_key(entry.tensor, entry.slice, file=file) for file in (None, entry.file)}
    if entry.key not in names:
        raise EntriesDisagree(entry.key, "the key does not name its tensor and slice")
    if entry.dtype != stored.dtype:
        raise EntriesDisagree(entry.key, f"dtypes {entry.dtype} and {stored.dtype}")
    try:
        if entry.slice is not None:
            slices.element_bytes(entry.dtype)
        shape = slices.box_shape(entry.shape, entry.slice)
    except ValueError as error:
        raise EntriesDisagree(entry.key, str(error)) from error
    if shape != stored.shape:
        raise EntriesDisagree(entry.key, f"shapes {list(shape)} and {list(stored.shape)}")


def _check_group(group: Sequence[TensorEntry]) -> None:
    first = group[0]
    if len(group) > MAX_SLICES:
        raise EntriesDisagree(first.key, f"its tensor has more than {MAX_SLICES} entries")
    for entry in group[1:]:
        same = (first.dtype, first.shape, first.sha256_before, first.sha256_after)
        if same != (entry.dtype, entry.shape, entry.sha256_before, entry.sha256_after):
            raise EntriesDisagree(entry.key, "entries of one tensor describe it differently")
    boxes = [entry.slice or [(0, length) for length in entry.shape] for entry in group]
    if len(boxes) > 1 and slices.overlapping(boxes):
        raise EntriesDisagree(first.key, "entries of one tensor overlap")


def _read_limited(path: Path) -> bytes:
    with path.open("rb") as file:
        raw = file.read(_MAX_MANIFEST_BYTES + 1)
    if len(raw) > _MAX_MANIFEST_BYTES:
        raise NotAPatch(path.parent, "the manifest is larger than 64 MiB")
    return raw
