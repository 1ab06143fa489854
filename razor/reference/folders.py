"""Picture folders: pictures beside an `index.csv` that says who is on them.

The same format serves drawings written here and a user's own pictures. Columns: `path` (relative
to the folder), `name`, `caption`, and optionally `scene`, `accessory`, `style`.
"""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from razor.reference.drawings import Drawing, draw
from razor.reference.errors import FolderError

INDEX = "index.csv"
REQUIRED = ("path", "name", "caption")
ATTRIBUTES = ("scene", "accessory", "style")
COLUMNS = REQUIRED + ATTRIBUTES
# PGM and PPM are both Pillow's PPM format.
FORMATS = ("JPEG", "PNG", "WEBP", "PPM")

# Seed s of a folder owns the drawing seeds from s * SEEDS_PER_FOLDER on. Seed 0 is what the
# shipped networks were trained on; every other seed gives pictures they never saw.
SEEDS_PER_FOLDER = 1_000_000


@dataclass(frozen=True)
class Row:
    """One line of an index: where the picture is and what is true of it.

    An attribute is None where the index has no such column or leaves the cell empty.
    """

    path: str
    name: str
    caption: str
    scene: str | None = None
    accessory: str | None = None
    style: str | None = None


def write_folder(
    folder: Path,
    names: Sequence[str],
    pictures_per_name: int,
    seed: int,
    size: int = 64,
    drawn: Callable[[str, int, int], Drawing] = draw,
    attributes: Sequence[str] = ATTRIBUTES,
) -> Path:
    """Write drawings of `names` as PNG with their `index.csv`; whole or not at all.

    `drawn(name, drawing seed, size)` draws one; `attributes` are further columns of the index.

    The k-th picture of every name has drawing seed `seed * SEEDS_PER_FOLDER + k`, so the same
    arguments give the same bytes and a longer folder starts with the shorter one. Returns the
    folder. Raises `FolderError` when it exists and is not empty.
    """
    if not 0 < pictures_per_name <= SEEDS_PER_FOLDER:
        raise FolderError(f"ask for 1 to {SEEDS_PER_FOLDER} pictures a name")
    with whole_folder(folder) as partial:
        rows: list[tuple[str, ...]] = [(*REQUIRED, *attributes)]
        for name in names:
            stem = name.lower().replace(" ", "_")
            for k in range(pictures_per_name):
                made = drawn(name, seed * SEEDS_PER_FOLDER + k, size)
                path = f"{stem}_{k:04d}.png"
                made.image.save(partial / path)
                cells = (getattr(made, attribute) or "" for attribute in attributes)
                rows.append((path, name, made.caption, *cells))
        with (partial / INDEX).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    return folder


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary sibling that becomes `folder` when the block ends, and vanishes if it fails.

    Raises `FolderError` when `folder` exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FolderError(f"{folder} is already there; remove it or choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        # mkdtemp is private to this user; a folder that others read must not stay so.
        partial.chmod(0o755)
        yield partial
        os.replace(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def read_folder(folder: Path) -> list[Row]:
    """The rows of a folder's `index.csv`, every one naming a file inside the folder.

    Pictures are not decoded here. Raises `FolderError` for a missing or empty index, a missing
    column, an empty cell of a required column, a path that leaves the folder, or a missing file.
    """
    index = folder / INDEX
    if not index.is_file():
        raise FolderError(
            f"{folder} holds no {INDEX}; write one with the columns {', '.join(REQUIRED)}"
        )
    try:
        with index.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            missing = [column for column in REQUIRED if column not in (table.fieldnames or ())]
            if missing:
                raise FolderError(
                    f"{index} lacks the column {', '.join(missing)}; its first line must name "
                    f"{', '.join(REQUIRED)} (and may name {', '.join(ATTRIBUTES)})"
                )
            rows = [_row(folder, table.line_num, cells) for cells in table]
    except UnicodeDecodeError as error:
        raise FolderError(f"{index} is not UTF-8 text; save it as UTF-8") from error
    if not rows:
        raise FolderError(f"{index} names no picture; add one line for each picture")
    return rows


def _row(folder: Path, line: int, cells: dict[str, str | None]) -> Row:
    path, name, caption = ((cells.get(column) or "").strip() for column in REQUIRED)
    where = f"{folder / INDEX}, line {line}"
    for column, cell in zip(REQUIRED, (path, name, caption), strict=True):
        if not cell:
            raise FolderError(f"{where}: the cell {column} is empty; fill it or remove the line")
    inside = folder.resolve()
    target = (folder / PurePosixPath(path)).resolve()
    if not target.is_relative_to(inside):
        raise FolderError(
            f"{where}: the path {path!r} leaves the folder; put the picture inside it"
        )
    if not target.is_file():
        raise FolderError(f"{where}: there is no file {path!r}; add it or remove the line")
    scene, accessory, style = ((cells.get(column) or "").strip() or None for column in ATTRIBUTES)
    return Row(path, name, caption, scene, accessory, style)


def open_picture(path: Path, size: int) -> Image.Image:
    """The picture as RGB of `size` x `size` pixels (the aspect ratio gives way).

    Grey pictures become RGB. Raises `FolderError` for a file that is no JPEG, PNG, WebP, PGM
    or PPM.
    """
    try:
        with Image.open(path, formats=FORMATS) as picture:
            picture.load()
            rgb = picture.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise FolderError(
            f"{path} cannot be read as {', '.join(FORMATS)}; convert it or remove its line"
        ) from error
    if rgb.size != (size, size):
        rgb = rgb.resize((size, size), Image.Resampling.BICUBIC)
    return rgb
