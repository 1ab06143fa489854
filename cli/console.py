"""What is printed where: answers on stdout, remarks on stderr; colour on a terminal alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence

COLUMN_GAP = "  "


def is_terminal() -> bool:
    """Whether somebody watches stdout: if not, every change is one plain line."""
    return sys.stdout.isatty()


def say(text: str, style: str | None = None) -> None:
    """One answer on stdout, never wrapped or coloured in a pipe."""
    if not is_terminal():
        print(text, flush=True)
        return
    from rich.console import Console

    Console(highlight=False).print(text, style=style, markup=False, soft_wrap=True)


def note(text: str) -> None:
    """A remark on stderr: what a program that reads the answer does not need."""
    print(text, file=sys.stderr, flush=True)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Rows under headers; in a pipe, padded columns without lines around them."""
    if is_terminal():
        _rich_table(headers, rows, title)
        return
    if title:
        say(title)
    widths = [max(len(row[column]) for row in (headers, *rows)) for column in range(len(headers))]
    for row in (headers, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        say(COLUMN_GAP.join(cells).rstrip())


def _rich_table(headers: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD)
    for position, header in enumerate(headers):
        # The first column is words and may wrap; figures stay on one line.
        shown.add_column(header, overflow="fold", no_wrap=position > 0)
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(shown)
