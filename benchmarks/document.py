"""The figures as a document: every number in it is computed from the rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import queues, workers

Row = Mapping[str, Any]
PLOT: Final = "load_queue.png"
#: What the p95 ratios, memory and the share of a core may be at most, and against what.
MOST: Final = {("intake", "wire and disk"): 1.5, ("status", "wire and row"): 2.0}
STREAM_MEGABYTES, STREAM_CORE_SHARE = 200, 0.20
_SIMULATED: Final = (1, 2, 4, 8, 16, 32)

_AGAINST: Final = """\
- **wire**: takes the same body apart and answers the same bytes from memory, nothing else.
- **wire and row**: reads those bytes from a row of the same database by its key, with the driver
  alone.
- **wire and disk**: re-encodes and syncs the same pictures, and commits one row; or sends the same
  file with the framework's own `FileResponse`."""


def text(found: Mapping[str, Any]) -> str:
    """The document in Markdown."""
    return "\n\n".join(_sections(found)) + "\n"


def _sections(found: Mapping[str, Any]) -> Iterator[str]:
    flag = " --quick" if found["quick"] else ""
    yield "# Load: the service beside a bare FastAPI"
    yield f"`razor bench load --postgres URL{flag} --out docs/results`"
    yield (
        "One client calls both in turn on the loopback, one request at a time, both under the "
        "same uvicorn settings; so crowding meets both alike and the **ratios** count, not the "
        f"milliseconds. (a to b) is a 95 % bootstrap interval. Pictures are {found['side']} pixels "
        "wide. Processor time is that of the HTTP processes, without the database server's, less "
        "what they use at rest. "
        f"Python {found['python']}, "
        + ", ".join(f"{name} {number}" for name, number in found["versions"].items())
        + "."
    )
    yield "What the bare application does:\n\n" + _AGAINST
    yield "## Calls"
    yield _calls([row for row in found["calls"] if "p95_ratio" in row])
    yield "## Event streams"
    yield _streams([row for row in found["calls"] if row["what"] == "streams"])
    yield "## Long queues"
    yield (
        "Queued jobs of four models, each call in a transaction that is undone. Milliseconds, "
        f"median of {found['queues'][0]['n']}; statements in brackets. Relay, reaper, reconciler, "
        "janitor and webhooks are one round each of the front's threads with nothing wrong; the "
        "figures are one scrape of `/metrics`, which counts every job in an index."
    )
    yield _queues(found["queues"])
    yield f"![cost against length]({PLOT})"
    yield "## Workers"
    yield _workers(found)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _calls(rows: Sequence[Row]) -> str:
    return _table(
        [
            "database",
            "call",
            "against",
            "n",
            "p50 ratio",
            "p95 ratio",
            "asked",
            "p95 ms, ours",
            "p95 ms, bare",
            "processor ms, ours",
            "bare",
        ],
        [
            [
                row["database"],
                row["what"],
                row["against"],
                str(row["n"]),
                _interval(row["p50_ratio"]),
                _interval(row["p95_ratio"]),
                _asked(row),
                f"{row['p95_ms'][0]:.1f}",
                f"{row['bare_p95_ms'][0]:.1f}",
                f"{row['cpu_ms']:.1f}",
                f"{row['bare_cpu_ms']:.1f}",
            ]
            for row in rows
        ],
    )


def _asked(row: Row) -> str:
    most = MOST.get((row["what"], row["against"]))
    if most is None:
        return "-"
    value, low, high = row["p95_ratio"]
    verdict = "met" if high <= most else "missed" if low > most else "unclear"
    if verdict == "unclear":
        verdict = f"{'met' if value <= most else 'missed'}, within the interval"
    return f"at most {most}: {verdict}"


def _interval(told: Sequence[float]) -> str:
    value, low, high = told
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def _streams(rows: Sequence[Row]) -> str:
    return (
        f"Asked: at most {STREAM_MEGABYTES} MB and {STREAM_CORE_SHARE:.0%} of one core for 500 "
        "that are idle.\n\n"
        + _table(
            [
                "database",
                "open at once",
                "memory, MB",
                "bare",
                "share of one core",
                "of that without any stream",
                "bare",
                "verdict",
            ],
            [
                [
                    row["database"],
                    str(row["n"]),
                    f"{row['memory_bytes'] / 1e6:.0f}",
                    f"{row['bare_memory_bytes'] / 1e6:.0f}",
                    f"{row['core_share']:.1%}",
                    f"{row['rest_core_share']:.1%}",
                    f"{row['bare_core_share']:.1%}",
                    "met"
                    if row["memory_bytes"] <= STREAM_MEGABYTES * 1e6
                    and row["core_share"] <= STREAM_CORE_SHARE
                    else "missed",
                ]
                for row in rows
            ],
        )
    )


def _queues(rows: Sequence[Row]) -> str:
    by_place = {(row["database"], row["call"], row["length"]): row for row in rows}
    names = list(dict.fromkeys((row["database"], row["call"]) for row in rows))

    def cell(database: str, call: str, length: int) -> str:
        row = by_place[database, call, length]
        return f"{row['p50_ms'][0]:.2f} ({row['statements']})"

    return _table(
        ["database", "call", *(f"{length:,} jobs" for length in queues.LENGTHS)],
        [
            [database, call, *(cell(database, call, length) for length in queues.LENGTHS)]
            for database, call in names
        ],
    )


def _workers(found: Mapping[str, Any]) -> str:
    lines = []
    for database in dict.fromkeys(row["database"] for row in found["workers"]):
        rows = [row for row in found["workers"] if row["database"] == database]
        one, four = (
            float(np.mean([row["seconds"] for row in rows if row["workers"] == count]))
            for count in (1, 4)
        )
        lines.append(
            [
                database,
                f"{rows[0]['jobs']} of {rows[0]['job_seconds']} s",
                str(len(rows) // 2),
                f"{one:.1f}",
                f"{four:.1f}",
                f"{one / four:.2f}",
                "met" if one / four >= 0.85 * 4 else "missed",
            ]
        )
    measured = _table(
        ["database", "jobs", "n", "one worker, s", "four, s", "times as many", "asked: 3.4"], lines
    )
    lock = _lock_seconds(found)

    def times(count: int, seconds: float) -> float:
        one, many = (workers.simulated(each, 640, seconds, lock, 64) for each in (1, count))
        return one / many

    simulated = _table(
        ["workers", *map(str, _SIMULATED)],
        [
            [
                f"jobs of {seconds:g} s",
                *(f"{times(count, seconds):.2f}" for count in _SIMULATED),
            ]
            for seconds in (workers.JOB_SECONDS, 10.0, 60.0)
        ],
    )
    return (
        "Real processes on one database, with the registry's own claims and endings; a job is a "
        "wait, so that two cores show scheduling and not computing.\n\n"
        + measured
        + "\n\nThe rest is **simulated**: 640 jobs of 64 models, where every claim and ending "
        f"holds one lock for {1000 * lock:.1f} ms (the claim measured above on SQLite, the worst "
        "case: there each transaction waits for every other). Times as many jobs as one worker "
        "does:\n\n" + simulated
    )


def _lock_seconds(found: Mapping[str, Any]) -> float:
    rows = [row for row in found["queues"] if row["call"] == queues.CLAIM]
    return float(next(row["p50_ms"][0] for row in rows if row["length"] == 1_000)) / 1000


def draw(rows: Sequence[Row], path: Path) -> None:
    """Cost against length, both axes logarithmic; without matplotlib nothing is drawn."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    databases = list(dict.fromkeys(row["database"] for row in rows))
    figure = Figure(figsize=(4.5 * len(databases), 3.6), layout="constrained")
    axes = figure.subplots(1, len(databases), squeeze=False, sharey=True)[0]
    for axis, database in zip(axes, databases, strict=True):
        for call in dict.fromkeys(row["call"] for row in rows):
            own = [row for row in rows if (row["database"], row["call"]) == (database, call)]
            # There is no place for zero on this axis; a queue of one is as short.
            places = [max(1, row["length"]) for row in own]
            axis.plot(places, [row["p50_ms"][0] for row in own], marker="o", label=call)
        axis.set(title=database, xscale="log", yscale="log", xlabel="queued jobs")
    axes[0].set_ylabel("milliseconds")
    axes[-1].legend(fontsize="x-small")
    figure.savefig(path, dpi=110, metadata={"Software": None})
