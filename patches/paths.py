"""Which names may be joined to a folder, and which files a folder really holds."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath

from patches.errors import NotACheckpoint, TensorMissing, UnsafePath

#: Folders within folders; no checkpoint has so many.
_MAX_DEPTH = 64
#: What Linux and macOS allow (limits.h), with room for the folder's own path.
_MAX_NAME_BYTES = 255
_MAX_PATH_BYTES = 2048
_SHOWN = 60


def safe_relative(text: str) -> PurePosixPath:
    """A relative path that stays inside its folder and hides from nobody; else UnsafePath.

    Refuses absolute paths, ``..``, backslashes and colons (Windows drives), control characters,
    names that begin with a dot (such files are outside a checkpoint's digest) or are too long.
    """
    if not text or not text.isprintable() or "\\" in text or ":" in text:
        raise UnsafePath(text, "it is no plain relative path with forward slashes")
    if any(not part or part.startswith(".") for part in text.split("/")):
        raise UnsafePath(
            text, "an absolute path, '..' or a hidden name leads out of the checkpoint"
        )
    if len(text.encode()) > _MAX_PATH_BYTES or any(
        len(part.encode()) > _MAX_NAME_BYTES for part in text.split("/")
    ):
        raise UnsafePath(text[:_SHOWN] + "...", "it is longer than any file's name can be")
    return PurePosixPath(text)


def file_inside(folder: Path, relative: str, *, tensor: str) -> Path:
    """The regular file of that name below the folder, reached through no link.

    Raises UnsafePath, or TensorMissing (for ``tensor``) when there is no such file.
    """
    path = folder
    parts = safe_relative(relative).parts
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise UnsafePath(relative, "it goes through a symbolic link")
    if not path.is_file():
        raise TensorMissing(tensor, file=relative, reason="the checkpoint has no such file")
    return path


def regular_files(folder: Path, *, hidden: bool = False) -> list[tuple[str, Path]]:
    """Every file below the folder as (POSIX path, path), sorted by the first.

    ``hidden`` includes names that begin with a dot. Raises NotACheckpoint if there is no folder,
    and UnsafePath for a link, a device, a name that cannot be written down as one line of text, or
    a folder so deep inside others that no checkpoint has it.
    """
    if not folder.is_dir():
        raise NotACheckpoint(folder, "there is no such folder")
    found: list[tuple[str, Path]] = []
    _collect(folder, "", hidden, found)
    return sorted(found)


def _collect(folder: Path, prefix: str, hidden: bool, found: list[tuple[str, Path]]) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") and not hidden:
                continue
            name = prefix + entry.name
            if not entry.name.isprintable() or "\\" in entry.name:
                raise UnsafePath(name, "its name is not plain text")
            mode = entry.stat(follow_symlinks=False).st_mode
            if name.count("/") > _MAX_DEPTH:
                raise UnsafePath(entry.name, "it lies too deep")
            if stat.S_ISDIR(mode):
                _collect(Path(entry.path), name + "/", hidden, found)
            elif stat.S_ISREG(mode):
                found.append((name, Path(entry.path)))
            else:
                raise UnsafePath(name, "it is a link or no regular file")
