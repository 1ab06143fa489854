"""Rows of an earlier document, in place of runs that take hours and time nothing.

A gold model is a training of its own, and a setting of a grid is judged by what it did to select
pictures: neither figure depends on what else the machine did. Rows with costs are never taken: a
cost is compared within one run of the benchmark.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from razor.bench.plan import Job, named
from razor.bench.pool import Pool, write

Row = dict[str, Any]

KEYS = {"suite", "method", "target", "seed", "params"}


def read(document: Path) -> list[Row]:
    """The rows of a document's JSON. Raises ValueError where it holds none."""
    rows = json.loads(document.read_text(encoding="utf-8"))
    if not isinstance(rows, list) or not all(
        isinstance(r, dict) and r.keys() >= KEYS for r in rows
    ):
        raise ValueError("no list of rows")
    return rows


def taken_over(rows: Sequence[Row], job: Job) -> Row | None:
    """The earlier row of the same method, target, seed and parameters; None where it is to be run.

    Nothing here sees whether the code has changed since: whoever changes how gold or a rival is
    run or measured starts without an earlier document.
    """
    if job.suite != "tuning" and (job.method != "gold" or job.suite == "faces"):
        return None
    wanted = (job.suite, job.method, job.targets[0], job.seed, named(job.params))
    for row in rows:
        found = (row["suite"], row["method"], row["target"], row["seed"], row["params"])
        if found == wanted:
            return {**row, "variant": job.variant, "taken_over": True}
    return None


def take_over(document: Path | None, pool: Pool, jobs: Sequence[Job]) -> None:
    """Writes the earlier rows of jobs that have not run, as if these had just ended."""
    rows = read(document) if document is not None else []
    for job in jobs:
        row = taken_over(rows, job)
        if row is not None and not pool.file(job).exists():
            write(pool.file(job), [row])
