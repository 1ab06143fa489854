"""A search for what must not be there: a name in any usual form, bytes of a picture."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus

from sqlalchemy import MetaData, create_engine, select

#: A part of a picture that is long enough to be no accident.
WINDOW_BYTES = 64
#: Every window of a file holds one whole block of this size that begins at a multiple of it.
_BLOCK_BYTES = WINDOW_BYTES // 2  # 63 bytes would do
#: A window of fewer different values is a run of one colour, not a picture.
_DIFFERENT_VALUES = 16


def forms(name: str) -> set[bytes]:
    """The name as files and databases may hold it."""
    found: set[bytes] = set()
    for text in (name, name.lower(), name.upper()):
        plain = text.encode()
        found |= {plain, text.encode("utf-16-le"), text.encode("utf-16-be"), plain.hex().encode()}
        found |= {quote(text).encode(), quote_plus(text).encode()}
        found |= {
            json.dumps(text)[1:-1].encode(),
            json.dumps(json.dumps(text)[1:-1])[1:-1].encode(),
        }
        for shift in range(3):  # where the name may begin within a group of three bytes
            code = base64.b64encode(bytes(shift) + plain)
            found.add(code[(shift * 8 + 5) // 6 : len(code) - 4])
    return found


def of_name(name: str, held: Mapping[str, bytes]) -> list[str]:
    """Where a form of the name is."""
    wanted = forms(name)
    return [
        place
        for place, data in held.items()
        if any(form in data or form in data.lower() for form in wanted)
    ]


def of_pictures(pictures: Iterable[bytes], held: Mapping[str, bytes]) -> list[str]:
    """Where 64 bytes in a row of one of these pictures' files are."""
    windows = {
        window
        for picture in pictures
        for start in range(len(picture) - WINDOW_BYTES + 1)
        if len(set(window := picture[start : start + WINDOW_BYTES])) >= _DIFFERENT_VALUES
    }
    assert windows, "a search for nothing finds nothing"
    parts = range(WINDOW_BYTES - _BLOCK_BYTES + 1)
    blocks = {window[start : start + _BLOCK_BYTES] for window in windows for start in parts}
    return [place for place, data in held.items() if _holds(data, blocks, windows)]


def _holds(data: bytes, blocks: set[bytes], windows: set[bytes]) -> bool:
    """Looks at every second half window only: whoever holds a window holds one of those whole."""
    for place in range(0, len(data) - _BLOCK_BYTES + 1, _BLOCK_BYTES):
        if data[place : place + _BLOCK_BYTES] in blocks:
            starts = range(max(0, place - _BLOCK_BYTES), place + 1)
            if any(data[start : start + WINDOW_BYTES] in windows for start in starts):
                return True
    return False


def everything(folder: Path, database_url: str) -> dict[str, bytes]:
    """Every file of the folder, also its name, and every row of the database."""
    held = {f"file {path.name}": path.read_bytes() for path in _files(folder)}
    held["file names"] = "\n".join(str(path) for path in folder.rglob("*")).encode()
    return held | dict(_rows(database_url))


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _rows(url: str) -> Iterator[tuple[str, bytes]]:
    engine = create_engine(url)
    try:
        tables = MetaData()
        with engine.connect() as connection:
            tables.reflect(connection)
            for table in tables.sorted_tables:
                for number, row in enumerate(connection.execute(select(table))):
                    yield f"row {number} of {table.name}", b"\n".join(map(_bytes, row))
    finally:
        engine.dispose()


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes | memoryview):
        return bytes(value)
    return (value if isinstance(value, str) else json.dumps(value, default=str)).encode()
