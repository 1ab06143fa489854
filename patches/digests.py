"""Digests of files, of tensors and of checkpoint folders, as ``docs/patch_format.md`` says."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from patches.container import Entry, Header, Source, open_source, read_range
from patches.paths import regular_files

#: Prefix of a checkpoint's digest; those of files and tensors are bare hex.
PREFIX: Final = "sha256:"
_MOST_THREADS: Final = 8  # hashing is bound by the disk beyond that


def chunks_digest(chunks: Iterable[bytes]) -> str:
    """Sha256 in lower-case hex of the chunks one after the other."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """Sha256 in lower-case hex of a file, read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensor_digest(source: Source, header: Header, entry: Entry) -> str:
    """Sha256 in lower-case hex of one tensor's raw bytes as they stand in the file."""
    with open_source(source) as file:
        size = entry.end - entry.begin
        return chunks_digest(read_range(file, header.data_start + entry.begin, size))


def checkpoint_digest(folder: Path) -> str:
    """``sha256:`` + the digest over every file's digest and path; dot names are left out.

    The same for every copy of the folder, whatever its place, times and owners. Files are read in
    threads. Raises NotACheckpoint (no such folder) and UnsafePath (a link inside).
    """
    files = regular_files(folder)
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as threads:
        digests = list(threads.map(file_digest, [path for _, path in files]))
    return folder_digest((name, digest) for (name, _), digest in zip(files, digests, strict=True))


def folder_digest(files: Iterable[tuple[str, str]]) -> str:
    """A checkpoint's digest from the (POSIX path, sha256) of each of its files, in any order."""
    lines = (f"{digest}  {name}\n".encode() for name, digest in sorted(files))
    return PREFIX + chunks_digest(lines)
