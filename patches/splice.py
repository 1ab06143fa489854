"""Patched weights as a stream: the checkpoint's own bytes with the new values in place.

Constant memory (at most the largest tensor of which a part is patched), random access for HTTP
ranges, no temporary file, and the same bytes on every call: the layout is the checkpoint's, only
values change, so sizes and offsets are known before a byte is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from api_schemas.patches import TensorEntry
from patches import slices
from patches.container import Entry, Header, Source, read_header
from patches.errors import EntriesDisagree, TensorMissing
from patches.folder import by_tensor
from patches.paths import file_inside, safe_relative
from patches.segments import Assembled, FileRange, Joined, Part, Piece


@dataclass(frozen=True, slots=True)
class PatchSource:
    """One patch to put in place: its manifest's ``tensors`` and its ``patch.safetensors``.

    ``file`` is a path, or a function that opens the file anew (a blob without a path).
    """

    tensors: Sequence[TensorEntry]
    file: Source


@dataclass(frozen=True, slots=True)
class _Opened:
    """A source whose header was read once."""

    source: PatchSource
    header: Header


class PatchedFile(Joined):
    """One weights file with patches in place, in order; the last writer of a value wins.

    ``name`` is the file's path in its checkpoint (its own name when left out): entries for other
    files are left aside. Raises MalformedContainer, TensorMissing (no such tensor, or another
    dtype or shape) and EntriesDisagree. Digests are not looked at: ``patches.apply`` does.
    """

    def __init__(
        self, base: Path, patches: Sequence[PatchSource], *, name: str | None = None
    ) -> None:
        self.base = base
        self.name = base.name if name is None else name
        self.header = read_header(base)
        self._patched = self._collect(_open(patches, self.name))
        super().__init__(self._layout())

    def tensor(self, name: str) -> Part:
        """The bytes of one tensor with the patches in place. Raises TensorMissing."""
        if name in self._patched:
            return self._patched[name]
        if name not in self.header.entries:
            raise TensorMissing(name, file=self.name)
        return self._base_range(self.header.entries[name])

    def _collect(self, patches: Sequence[_Opened]) -> dict[str, Part]:
        found: dict[str, Part] = {}
        for patch in patches:
            for (file, tensor), entries in by_tensor(patch.source.tensors).items():
                if file == self.name:
                    stored = self._stored(entries[0])
                    before = found.get(tensor, self._base_range(stored))
                    found[tensor] = _put(before, stored, entries, patch)
        return found

    def _stored(self, entry: TensorEntry) -> Entry:
        stored = self.header.entries.get(entry.tensor)
        if stored is None:
            raise TensorMissing(entry.tensor, file=self.name)
        if (stored.dtype, list(stored.shape)) != (entry.dtype, entry.shape):
            raise TensorMissing(
                entry.tensor,
                file=self.name,
                reason=f"there it is {stored.dtype} {list(stored.shape)}, "
                f"not {entry.dtype} {entry.shape}",
            )
        return stored

    def _base_range(self, stored: Entry) -> FileRange:
        begin = self.header.data_start + stored.begin
        return FileRange(self.base, begin, stored.end - stored.begin)

    def _layout(self) -> list[Part]:
        parts: list[Part] = []
        position = 0
        entries = self.header.entries
        # By end as well: an empty tensor begins where the next one does.
        for tensor in sorted(
            self._patched, key=lambda name: (entries[name].begin, entries[name].end)
        ):
            begin = self.header.data_start + entries[tensor].begin
            parts.append(FileRange(self.base, position, begin - position))
            parts.append(self._patched[tensor])
            position = begin + self._patched[tensor].size
        parts.append(FileRange(self.base, position, self.header.size - position))
        return parts


def check_files(checkpoint: Path, patches: Sequence[PatchSource]) -> list[str]:
    """The checkpoint's files that the patches edit, in manifest order; each is there.

    Raises UnsafePath, TensorMissing.
    """
    edited: dict[str, None] = {}
    for patch in patches:
        for entry in patch.tensors:
            if entry.file not in edited:
                file_inside(checkpoint, entry.file, tensor=entry.tensor)
                edited[entry.file] = None
    return list(edited)


def _open(patches: Sequence[PatchSource], name: str) -> list[_Opened]:
    safe_relative(name)
    return [
        _Opened(patch, read_header(patch.file))
        for patch in patches
        if any(entry.file == name for entry in patch.tensors)
    ]


def _put(before: Part, stored: Entry, entries: Sequence[TensorEntry], patch: _Opened) -> Part:
    """The tensor after one more patch."""
    for entry in entries:
        values = _values(entry, stored, patch)
        if entry.slice is None:
            before = values
            continue
        piece = Piece(values, [(start, stop) for start, stop in entry.slice])
        if isinstance(before, Assembled):
            before = Assembled(before.whole, stored.dtype, stored.shape, (*before.pieces, piece))
        else:
            assert isinstance(before, FileRange)
            before = Assembled(before, stored.dtype, stored.shape, (piece,))
    return before


def _values(entry: TensorEntry, stored: Entry, patch: _Opened) -> FileRange:
    found = patch.header.entries.get(entry.key)
    if found is None:
        raise EntriesDisagree(entry.key, "patch.safetensors lacks it")
    try:
        shape = slices.box_shape(stored.shape, entry.slice)
    except ValueError as error:
        raise EntriesDisagree(entry.key, str(error)) from error
    if (found.dtype, found.shape) != (stored.dtype, shape):
        raise EntriesDisagree(entry.key, "its dtype or shape does not fit the tensor")
    begin = patch.header.data_start + found.begin
    return FileRange(patch.source.file, begin, found.end - found.begin)
