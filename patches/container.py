"""The safetensors layout, read and written without trust and without dependencies.

8 bytes little-endian header length, a JSON header, the data. Source of the rules: the reference
implementation's own checks (github.com/huggingface/safetensors, ``safetensors/src/tensor.rs``).
This reader refuses all that the reference refuses, and a few things that it lets pass: keys given
twice and names that are not text.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Final, TypeAlias

from patches.errors import MalformedContainer

#: Bits of one element. Sub-byte types pack elements without gaps.
DTYPE_BITS: Final[Mapping[str, int]] = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
    "C64": 64,
}
MAX_HEADER_BYTES: Final = 100_000_000  # the reference's own limit
MAX_DIMENSIONS: Final = 64  # ours: torch stops there too
METADATA: Final = "__metadata__"
_LENGTH: Final = struct.Struct("<Q")
_ALIGNMENT: Final = 8
_CHUNK_BYTES: Final = 1 << 20
_LARGEST: Final = 2**63 - 1

Bytes: TypeAlias = bytes | bytearray | memoryview
#: A path, or a function that opens the same bytes anew (a blob that has no path).
Source: TypeAlias = Path | Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one tensor lies: offsets are relative to the start of the data."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header: the entries cover the data from end to end, without gap or overlap."""

    entries: dict[str, Entry]
    metadata: dict[str, str]
    data_start: int
    size: int


@dataclass(frozen=True, slots=True)
class TensorData:
    """One tensor to write. ``data`` may be a function: it is called once, when its turn comes."""

    dtype: str
    shape: Sequence[int]
    data: Bytes | Callable[[], Bytes]


def tensor_bytes(dtype: str, shape: Sequence[int]) -> int:
    """The exact size of a tensor in bytes; raises ValueError for what no file can hold."""
    bits = DTYPE_BITS.get(dtype)
    if bits is None:
        raise ValueError(f"unknown dtype {dtype[:40]!r}")
    if len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"more than {MAX_DIMENSIONS} dimensions")
    for length in shape:
        bits *= length
        if bits > _LARGEST:
            raise ValueError("a shape too large for any file")
    if bits % 8:
        raise ValueError("a shape that does not end on a whole byte")
    return bits // 8


def open_source(source: Source) -> BinaryIO:
    """Open a path or call the opener; the caller closes it."""
    return source.open("rb") if isinstance(source, Path) else source()


def read_header(source: Source | BinaryIO) -> Header:
    """The header, wholly checked; an open file is read from its start and left open.

    Memory is bounded by the header's length, itself at most 100 MB and the file's size.
    Raises MalformedContainer for anything that breaks the layout, never another exception.
    """
    with _opened(source) as file:
        name = Path(str(getattr(file, "name", "the file"))).name
        try:
            return _read_header(file)
        except (ValueError, RecursionError, MemoryError) as error:
            reason = str(error) if isinstance(error, _Broken) else "the header is not valid JSON"
            raise MalformedContainer(reason, name=name) from error


def write(path: Path, tensors: Mapping[str, TensorData], metadata: Mapping[str, str]) -> None:
    """Write a file that depends on its contents alone: equal contents are equal bytes.

    Entries are sorted by key and laid out in that order; the header is padded with spaces to a
    multiple of 8 bytes. The file is on disk (fsync) on return. Refuses to overwrite
    (FileExistsError); raises ValueError if data and shape disagree, and leaves no file then.
    """
    header, sizes = _header_bytes(tensors, metadata)
    try:
        with path.open("xb") as file:
            file.write(_LENGTH.pack(len(header)))
            file.write(header)
            for key, size in sizes.items():
                data = tensors[key].data
                view = memoryview(data() if callable(data) else data).cast("B")
                if view.nbytes != size:
                    raise ValueError(
                        f"{key!r} holds {view.nbytes} bytes, its shape asks for {size}"
                    )
                file.write(view)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def read_range(file: IO[bytes], begin: int, size: int) -> Iterator[bytes]:
    """Exactly ``size`` bytes from ``begin``, in chunks; raises MalformedContainer if it ends."""
    file.seek(begin)
    while size:
        chunk = file.read(min(size, _CHUNK_BYTES))
        if not chunk:
            raise MalformedContainer("it ends too early")
        size -= len(chunk)
        yield chunk


class _Broken(ValueError):
    """A rule of the layout that does not hold; the message names it."""


@contextmanager
def _opened(source: Source | BinaryIO) -> Iterator[BinaryIO]:
    if isinstance(source, Path) or callable(source):
        with open_source(source) as file:
            yield file
    else:
        yield source


def _read_header(file: BinaryIO) -> Header:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    prefix = file.read(_LENGTH.size)
    if len(prefix) < _LENGTH.size:
        raise _Broken("it is shorter than a header")
    (length,) = _LENGTH.unpack(prefix)
    data_start = _LENGTH.size + length
    if length > MAX_HEADER_BYTES or data_start > size:
        raise _Broken("the header is longer than the file, or than 100 MB")
    raw = file.read(length)
    if len(raw) < length:
        raise _Broken("it ends too early")
    document = _parse(raw)
    metadata = _metadata(document.pop(METADATA, None))
    entries = {name: _entry(name, value) for name, value in document.items()}
    _check_cover(entries, size - data_start)
    return Header(entries=entries, metadata=metadata, data_start=data_start, size=size)


def _parse(raw: bytes) -> dict[str, object]:
    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise _Broken("a key is given twice")
        return found

    document = json.loads(raw.decode("utf-8"), object_pairs_hook=once)
    if not isinstance(document, dict):
        raise _Broken("the header is not an object")
    return document


def _metadata(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise _Broken("the metadata is not text to text")
    for pair in value.items():
        "".join(pair).encode("utf-8")  # a lone surrogate is not text: UnicodeEncodeError
    return value


def _entry(name: str, value: object) -> Entry:
    name.encode("utf-8")
    if not isinstance(value, dict):
        raise _Broken("an entry is not an object")
    if value.keys() != {"dtype", "shape", "data_offsets"}:
        raise _Broken("an entry needs dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str):
        raise _Broken("a dtype is not text")
    if not _naturals(shape) or not _naturals(offsets) or len(offsets) != 2:
        raise _Broken("a shape or an offset is not a list of natural numbers")
    begin, end = offsets
    try:
        expected = tensor_bytes(dtype, shape)
    except ValueError as error:
        raise _Broken(str(error)) from error
    if end - begin != expected:
        raise _Broken("dtype and shape ask for another number of bytes than the offsets")
    return Entry(dtype=dtype, shape=tuple(shape), begin=begin, end=end)


def _naturals(value: object) -> bool:
    return isinstance(value, list) and all(
        type(number) is int and 0 <= number <= _LARGEST for number in value
    )


def _check_cover(entries: Mapping[str, Entry], data_bytes: int) -> None:
    position = 0
    for entry in sorted(entries.values(), key=lambda entry: (entry.begin, entry.end)):
        if entry.begin != position:
            raise _Broken("the entries overlap or leave gaps")
        position = entry.end
    if position != data_bytes:
        raise _Broken("the entries do not cover the data")


def _header_bytes(
    tensors: Mapping[str, TensorData], metadata: Mapping[str, str]
) -> tuple[bytes, dict[str, int]]:
    document: dict[str, object] = {}
    if metadata:
        document[METADATA] = dict(sorted(metadata.items()))
    sizes: dict[str, int] = {}
    position = 0
    for key in sorted(tensors):
        if key == METADATA:
            raise ValueError(f"no tensor can be called {METADATA!r}")
        tensor = tensors[key]
        sizes[key] = tensor_bytes(tensor.dtype, tensor.shape)
        document[key] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [position, position + sizes[key]],
        }
        position += sizes[key]
    raw = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    raw += b" " * (-len(raw) % _ALIGNMENT)
    if len(raw) > MAX_HEADER_BYTES:
        raise ValueError("too many tensors for one file: the header would pass 100 MB")
    return raw, sizes
