"""The matrix's outcome as rows, and the rows as a document."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from tests.crash.cells import LEFT_OUT, Backend, Cell, cells
from tests.crash.matrix import Found
from tests.crash.stack import SEED

NAME: Final = "crash_matrix"
COMMAND: Final = "python -m tests.crash --repeats {} --out docs/results"
TEXT: Final = """\
# Crash matrix

A real job (RAZOR, one step, on the shipped CLIP model, fixed seeds) runs on real processes. One of
them stands still at a named point (`registry/failpoints.py`), something gets SIGKILL, the one that
stood goes on if it lives, and what was killed is started again after 0.3 s. Production is a
PostgreSQL and a Redis (append-only file) of the run's own, which are killed with all of their
processes. Fronts and workers are forked from a process that has imported everything, so that a
start costs no import of torch; the test of the whole path kills one that was started plainly.

After each kill (`tests/crash/laws.py`):

- **lost**: the accepted job has not ended as `succeeded` with a version, an event is missing, or an
  event has no message to the webhook;
- **doubled**: more than one job, patch, version, end, or message per event, or the idempotency key
  answers with another job;
- **corrupt**: the patch is not, bit for bit, that of the undisturbed run; its file is not what its
  name says; the audit log does not hash to its tree or does not continue what it was; one
  `webhook-id` came with two contents; after the sweep a file is left that no row refers to.

Made by `{command}`, seed {seed}: {kills} kills, {least} to {most} of each cell.
**{lost} lost, {doubled} doubled, {corrupt} corrupt.**

| stack | stands | whose | killed | repeats | lost | doubled | corrupt |
|---|---|---|---|---|---|---|---|
{rows}

Left out:

{left_out}
"""


@dataclass
class Tally:
    """What came of one cell, all repeats together."""

    repeats: int = 0
    lost: int = 0
    doubled: int = 0
    corrupt: int = 0
    wall_seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def add(self, found: Found) -> None:
        """One more repeat: each kind of wrong counts once."""
        self.repeats += 1
        self.lost += bool(found.lost)
        self.doubled += bool(found.doubled)
        self.corrupt += bool(found.corrupt)
        self.wall_seconds = round(self.wall_seconds + found.seconds, 1)
        self.wrong += found.wrong


def write(
    folder: Path, tallies: Mapping[Cell, Tally], *, repeats: int, spent_seconds: float
) -> None:
    """``crash_matrix.json`` and ``crash_matrix.md`` in this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [_row(cell) | asdict(tally) for cell, tally in tallies.items()]
    content = {
        "command": COMMAND.format(repeats),
        "seed": SEED,
        "processor_seconds": round(spent_seconds),
        "rows": rows,
    }
    (folder / f"{NAME}.json").write_text(json.dumps(content, indent=1) + "\n")
    (folder / f"{NAME}.md").write_text(_text(list(tallies.values()), rows, repeats))


def _row(cell: Cell) -> dict[str, str]:
    return {
        "stack": cell.backend.value,
        "stands": cell.point.value.replace("_", " "),
        "whose": cell.role.value,
        "killed": cell.victim.value,
    }


def _text(tallies: Sequence[Tally], rows: Sequence[Mapping[str, object]], repeats: int) -> str:
    columns = ("stack", "stands", "whose", "killed", "repeats", "lost", "doubled", "corrupt")
    return TEXT.format(
        command=COMMAND.format(repeats),
        seed=SEED,
        kills=sum(tally.repeats for tally in tallies),
        least=min(tally.repeats for tally in tallies),
        most=max(tally.repeats for tally in tallies),
        lost=sum(tally.lost for tally in tallies),
        doubled=sum(tally.doubled for tally in tallies),
        corrupt=sum(tally.corrupt for tally in tallies),
        rows="\n".join(
            "| " + " | ".join(str(row[column]) for column in columns) + " |" for row in rows
        ),
        left_out="\n".join(
            f"- {backend}, {victim}: {why}." for (backend, victim), why in LEFT_OUT.items()
        ),
    )


def empty(backends: Sequence[Backend]) -> dict[Cell, Tally]:
    """A tally for each cell of these stacks, in the order of the table."""
    return {cell: Tally() for backend in backends for cell in cells(backend)}
