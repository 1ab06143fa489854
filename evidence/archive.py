"""An evidence folder as one tar, written in constant memory and read without trust."""

from __future__ import annotations

import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from evidence import names
from evidence.errors import Malformed
from patches import tars
from patches.segments import Joined, Literal, Part

_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def head(folder: str, files: Mapping[str, bytes]) -> bytes:
    """The files without the patch as members of a tar, below ``folder``; the part that is kept."""
    small: list[tuple[str, Part]] = [
        (f"{folder}/{name}", Literal(files[name])) for name in sorted(files)
    ]
    return b"".join(tars.members(small).iter_range())


def whole(folder: str, kept: Part, patch: Part) -> Joined:
    """The tar: what ``head`` made, then the patch file."""
    last = tars.members([(f"{folder}/{names.PATCH}", patch)])
    return Joined([kept, last, tars.end(kept.size + last.size)])


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The evidence folder at ``path``, or the one in the tar at ``path``, gone at the end.

    Raises Malformed for a tar with anything but the files of one evidence folder.
    """
    if path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="razor-evidence-") as scratch:
        _extract(path, Path(scratch))
        yield Path(scratch)


def is_evidence(path: Path) -> bool:
    """Whether this is a folder with a certificate in it, or a file (a tar of one)."""
    return path.is_file() or (path / names.CERTIFICATE).is_file()


def _extract(path: Path, target: Path) -> None:
    folders: set[str] = set()
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                folder, _, name = member.name.partition("/")
                if not _is_plain(member) or name not in names.ALL or not _FOLDER.fullmatch(folder):
                    raise Malformed(path.name, "it holds something that no evidence folder has")
                folders.add(folder)
                place = target / name
                if place.exists() or len(folders) > 1:
                    raise Malformed(path.name, "it holds a file twice, or several folders")
                place.parent.mkdir(exist_ok=True)
                source = tar.extractfile(member)
                assert source is not None
                with source, place.open("wb") as file:
                    shutil.copyfileobj(source, file)
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        raise Malformed(path.name, "it is no tar; give the folder or the tar") from error


def _is_plain(member: tarfile.TarInfo) -> bool:
    """A file with its bytes in the tar: a sparse one of a few bytes could fill the disk."""
    return member.isreg() and not member.issparse()
