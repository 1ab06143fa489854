"""The retain set: labelled pictures of everything else the model should keep."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from razor.errors import RetainSetInvalid

REQUIRED = ("path", "name", "caption")


@dataclass(frozen=True)
class Row:
    """One labelled picture; ``labels`` has one entry per domain, 'name' among them."""

    path: Path
    caption: str
    labels: dict[str, str]


@dataclass(frozen=True)
class RetainSet:
    """Every row of a folder's index.csv, in file order, and the domains it has labels for."""

    rows: tuple[Row, ...]
    domains: tuple[str, ...]
    digest: str

    def values(self, domain: str) -> list[str]:
        """The labels of a domain, sorted, each once."""
        return sorted({row.labels[domain] for row in self.rows if row.labels[domain]})


def read_retain_set(folder: Path, domains: Sequence[str]) -> RetainSet:
    """Reads ``index.csv``; ``domains`` are the label columns to use, missing ones are left out.

    The digest covers the index file's bytes and every picture's size: a quick look that
    notices most changes without reading the pictures. A run's own digest covers them.
    Raises RetainSetInvalid with the line that is wrong.
    """
    index = folder / "index.csv"
    if not index.is_file():
        raise RetainSetInvalid(f"{index.name} is missing in the retain folder; write one")
    root = folder.resolve()
    digest = hashlib.sha256(index.read_bytes())
    with index.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        columns = tuple(reader.fieldnames or ())
        missing = [column for column in REQUIRED if column not in columns]
        if missing:
            raise RetainSetInvalid(f"index.csv has no column {missing[0]!r}; add it")
        present = tuple(domain for domain in domains if domain in columns)
        rows = tuple(_row(root, line, record, present) for line, record in enumerate(reader, 2))
    for row in rows:
        digest.update(f"{row.path.relative_to(root)} {row.path.stat().st_size}\n".encode())
    return RetainSet(rows, present, digest.hexdigest())


def _row(root: Path, line: int, record: dict[str, str], domains: Sequence[str]) -> Row:
    path = (root / (record["path"] or "")).resolve()
    if not path.is_relative_to(root):
        raise RetainSetInvalid(f"index.csv line {line}: the path leaves the folder")
    if not path.is_file():
        raise RetainSetInvalid(f"index.csv line {line}: there is no such picture")
    if not record["name"] or not record["caption"]:
        raise RetainSetInvalid(f"index.csv line {line}: name and caption may not be empty")
    return Row(path, record["caption"], {domain: record[domain] or "" for domain in domains})
