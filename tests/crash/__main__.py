"""``python -m tests.crash``: the whole matrix, as often as asked, and its document.

The exit code is 0 only if nothing was lost, doubled or corrupt in any cell.
"""

from __future__ import annotations

import argparse
import io
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from razor.reference import drawings
from tests.crash import document, matrix, stack
from tests.crash.cells import Backend, Cell, cells
from tests.crash.document import Tally


class Progress:
    """What has come of every cell so far, shared by the stacks' threads."""

    def __init__(self, backends: Sequence[Backend], repeats: int, minutes: float | None) -> None:
        self.tallies = document.empty(backends)
        self.repeats = repeats
        self.spent_seconds = 0.0
        self._until = None if minutes is None else time.monotonic() + minutes * 60
        self._lock = threading.Lock()

    def over(self) -> bool:
        """Whether no further cell is to begin."""
        return self._until is not None and time.monotonic() > self._until

    def note(self, cell: Cell, found: matrix.Found, folder: Path | None) -> None:
        """One more repeat, told and written: a run that is stopped has its document."""
        with self._lock:
            self.tallies[cell].add(found)
            tally: Tally = self.tallies[cell]
            wrong = "; ".join(found.wrong) or "sound"
            print(f"{tally.repeats:3}  {found.seconds:6.1f} s  {cell}: {wrong}", flush=True)
            if folder is not None:
                spent = self.spent_seconds + time.process_time()
                document.write(folder, self.tallies, repeats=self.repeats, spent_seconds=spent)

    def add_spent(self, seconds: float) -> None:
        """Processor seconds of processes that are gone."""
        with self._lock:
            self.spent_seconds += seconds


def main() -> int:
    """Runs every cell, round after round, the stacks side by side."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--repeats", type=int, default=1, help="Kills of each cell.")
    parser.add_argument("--backend", choices=list(Backend), help="One stack instead of both.")
    parser.add_argument("--minutes", type=float, help="Begin no cell after so long.")
    parser.add_argument("--out", type=Path, help="Folder for crash_matrix.md and .json.")
    given = parser.parse_args()
    backends = [Backend(given.backend)] if given.backend else list(Backend)
    progress = Progress(backends, given.repeats, given.minutes)
    with ThreadPoolExecutor(len(backends)) as pool:
        list(pool.map(lambda backend: _rounds(backend, progress, given.out), backends))
    if given.out is not None:
        spent = progress.spent_seconds + time.process_time()
        document.write(given.out, progress.tallies, repeats=given.repeats, spent_seconds=spent)
    print(f"{progress.spent_seconds + time.process_time():.0f} processor seconds, servers apart")
    tallies = progress.tallies.values()
    return int(any(tally.wrong for tally in tallies))


def _rounds(backend: Backend, progress: Progress, folder: Path | None) -> None:
    with stack.running(backend, _draw) as alive:
        found = matrix.undisturbed(alive)
        assert not found.wrong, found.wrong
        for _ in range(progress.repeats):
            for cell in cells(backend):
                if progress.over():
                    break
                progress.note(cell, matrix.run(alive, cell), folder)
    progress.add_spent(alive.front.spent_seconds + alive.worker.spent_seconds)


def _draw(name: str, seed: int) -> bytes:
    stream = io.BytesIO()
    drawings.draw(name, seed).image.save(stream, "PNG")
    return stream.getvalue()


if __name__ == "__main__":
    sys.exit(main())
