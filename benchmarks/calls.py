"""What callers wait for, ours and bare in turn: intake, status, downloads, event streams."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import figures, world
from benchmarks.wire import Caller, Listeners, multipart
from benchmarks.world import World

Row = dict[str, Any]
SHARES: Final = (0.5, 0.95)
_TICK: Final = os.sysconf("SC_CLK_TCK")
_RANGE: Final = {"range": "bytes=1000000-1065535"}
WARM_UP: Final = 10


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: bounded numbers of requests, never a rate."""

    polls: int = 600
    intakes: int = 60
    downloads: int = 40
    streams: int = 500
    idle_seconds: float = 20.0
    side: int = 256  # of a picture, in pixels

    @classmethod
    def quick(cls) -> Effort:
        """A look, for minutes."""
        return cls(polls=150, intakes=20, downloads=15, streams=500, idle_seconds=8.0)


@dataclass(frozen=True, slots=True)
class Pair:
    """The service and the bare application beside it."""

    world: World
    ours: int  # process ids
    bare: int
    bare_port: int
    job_id: str
    patch_id: str

    def callers(self) -> tuple[Caller, Caller]:
        """A connection to each."""
        return Caller(self.world.settings.port, self.world.headers), Caller(self.bare_port)


def measured(
    database: str, url: str | None, effort: Effort, told: Callable[[str], None]
) -> list[Row]:
    """Every row on one kind of database."""
    with _pair(url) as pair:
        rest = _idle(pair)
        found: list[Row] = []
        for name, measure in (
            ("status", _status),
            ("intake", _intake),
            ("download", _download),
            ("streams", _streams),
        ):
            told(f"{database}: {name}")
            found += measure(pair, effort, rest)
    return [{"database": database, **row} for row in found]


@contextmanager
def _pair(url: str | None) -> Iterator[Pair]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="razor-load-")))
        schema = None if url is None else stack.enter_context(world.private_schema(url))
        made = stack.enter_context(world.prepared(folder / "data", schema))
        patch_id = world.finished(made)
        process = stack.enter_context(world.serving(made))
        job_id = made.accept(world.model_id(0))
        ours = Caller(made.settings.port, made.headers)
        _, view = ours.call("GET", f"/jobs/{job_id}")
        ours.close()
        (patch,) = (path for path in made.settings.blob_folder.glob("??/??/*"))
        bare, port = stack.enter_context(world.bare_serving(folder / "bare", view, patch, schema))
        yield Pair(made, process.pid, bare.pid, port, job_id, patch_id)


def _status(pair: Pair, effort: Effort, rest: Mapping[int, float]) -> list[Row]:
    path = f"/jobs/{pair.job_id}"

    def compared(against: str, bare_path: str) -> Row:
        return _compared(
            pair,
            rest,
            effort.polls,
            {"what": "status", "against": against},
            lambda caller: caller.call("GET", path)[0],
            lambda caller: caller.call("GET", bare_path)[0],
        )

    return [compared("wire", "/jobs/1"), compared("wire and row", "/rows/1")]


def _intake(pair: Pair, effort: Effort, rest: Mapping[int, float]) -> list[Row]:
    request = {"model": world.model_id(0), "target": {"name": "Mara Venn"}}
    text = json.dumps(request).encode()
    bodies = [
        multipart(text, world.pictures(8, effort.side, seed)) for seed in range(effort.intakes)
    ]

    def compared(against: str, bare_path: str) -> Row:
        mine, theirs = itertools.cycle(bodies), itertools.cycle(bodies)
        return _compared(
            pair,
            rest,
            effort.intakes,
            {"what": "intake", "against": against, "body_bytes": len(bodies[0][0])},
            lambda caller: caller.call("POST", "/unlearn", *next(mine), 202)[0],
            lambda caller: caller.call("POST", bare_path, *next(theirs), 202)[0],
        )

    return [compared("wire", "/carried"), compared("wire and disk", "/kept")]


def _download(pair: Pair, effort: Effort, rest: Mapping[int, float]) -> list[Row]:
    path = f"/patches/{pair.patch_id}/patch.safetensors"

    def compared(what: str, headers: Mapping[str, str], status: int, size: int) -> Row:
        def drain(caller: Caller, at: str) -> float:
            seconds, count = caller.drain(at, headers, status)
            assert count == size, "an answer was cut off"
            return seconds

        return _compared(
            pair,
            rest,
            effort.downloads,
            {"what": what, "against": "wire and disk", "body_bytes": size},
            lambda caller: drain(caller, path),
            lambda caller: drain(caller, "/patch"),
        )

    return [
        compared("download", {}, 200, world.PATCH_BYTES),
        compared("range", _RANGE, 206, 65536),
    ]


def _streams(pair: Pair, effort: Effort, rest: Mapping[int, float]) -> list[Row]:
    ids = [pair.world.accept(world.model_id(0)) for _ in range(effort.streams)]
    ours = asyncio.run(
        _listened(
            pair.ours,
            Listeners(
                pair.world.settings.port,
                [f"/jobs/{job_id}/events" for job_id in ids],
                pair.world.headers,
            ),
            effort,
        )
    )
    bare = asyncio.run(
        _listened(pair.bare, Listeners(pair.bare_port, ["/events"] * effort.streams, {}), effort)
    )
    return [
        {
            "what": "streams",
            "against": "wire",
            "n": effort.streams,
            "idle_seconds": effort.idle_seconds,
            "memory_bytes": ours[0],
            "bare_memory_bytes": bare[0],
            # What the front does anyhow is in it.
            "core_share": ours[1],
            "bare_core_share": bare[1],
            "rest_core_share": rest[pair.ours],
        }
    ]


async def _listened(pid: int, listeners: Listeners, effort: Effort) -> tuple[int, float]:
    """Memory that the streams take, and the share of one core while nothing happens."""
    before = _memory(pid)
    async with listeners:
        await asyncio.sleep(2.0)
        used, started = _seconds(pid), time.monotonic()
        await asyncio.sleep(effort.idle_seconds)
        share = (_seconds(pid) - used) / (time.monotonic() - started)
        return _memory(pid) - before, share


def _compared(
    pair: Pair,
    rest: Mapping[int, float],
    count: int,
    row: Row,
    ours: Callable[[Caller], float],
    bare: Callable[[Caller], float],
) -> Row:
    """Quantiles and processor time of both, called in turn by one client."""
    mine, theirs = pair.callers()
    for _ in range(WARM_UP):
        ours(mine)
        bare(theirs)
    used = {pid: _seconds(pid) for pid in (pair.ours, pair.bare)}
    started = time.monotonic()
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(count):
        seconds[0].append(ours(mine))
        seconds[1].append(bare(theirs))
    elapsed = time.monotonic() - started
    spent = {pid: (_seconds(pid) - used[pid] - rest[pid] * elapsed) / count * 1000 for pid in used}
    found = {**row, "n": count, "cpu_ms": spent[pair.ours], "bare_cpu_ms": spent[pair.bare]}
    for share in SHARES:
        name = f"p{round(100 * share)}"
        found[f"{name}_ms"] = _told(figures.quantile([1000 * s for s in seconds[0]], share))
        found[f"bare_{name}_ms"] = _told(figures.quantile([1000 * s for s in seconds[1]], share))
        found[f"{name}_ratio"] = _told(figures.ratio(*seconds, share))
    return found


def _told(figure: figures.Figure) -> list[float]:
    return [figure.value, figure.low, figure.high]


def _idle(pair: Pair) -> dict[int, float]:
    """The share of one core that each takes while nobody calls."""
    time.sleep(2.0)
    used = {pid: _seconds(pid) for pid in (pair.ours, pair.bare)}
    time.sleep(4.0)
    return {pid: (_seconds(pid) - before) / 4.0 for pid, before in used.items()}


def _seconds(pid: int) -> float:
    """Processor seconds of the process and of the children that it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = sum(int(value) for value in fields[11:15]) / _TICK
    return own + sum(_seconds(int(child)) for child in _children(pid))


def _children(pid: int) -> list[str]:
    return [
        child
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def _memory(pid: int) -> int:
    """Resident bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
