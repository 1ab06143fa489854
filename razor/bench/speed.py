"""What a job costs on models of real shapes, beside the least that it could cost.

The floor of an edit is the time of one forward and backward pass over the fit data, and of as many
plain forward passes as its readings asked for, all measured in the same process. Every point is a
process of its own, so that peak memory is its own.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import torch

from api_schemas.shelf import GateThresholds
from razor import cost, seeding
from razor.bench import streamed, weighed
from razor.bench.scripted import Forced
from razor.bench.weighed import REFERENCE, Counts, Subject
from razor.gradients import parameters_of
from razor.protocols import Study
from razor.unlearn import Run, Task, studied

Row = dict[str, Any]

METHODS: Final = ("razor", "slug")
#: The size of which CLIP models are also measured with other data.
MIDDLE: Final = "vit-s-32"
OTHERS: Final = ((16, 4), (8, 8))
#: Of each part of the floor; on a large model on reduced data once must do.
REPEATS: Final = 3
#: What makes two rows the same measurement.
KEYS: Final = (
    "family",
    "size",
    "method",
    "samples",
    "retained",
    "seed",
    "threads",
    "caches",
    "reduced",
)


@dataclass(frozen=True)
class Point:
    """One measurement: a model, how much data, and a method; without one, plain inference."""

    size: str
    method: str | None = None
    samples: int = 8
    retained: int = 4  # pictures of each subject
    seed: int = 0
    threads: int = 2
    caches: bool = True
    family: str = "clip"
    reduced: bool = False  # less of everything that is noised, painted, asked and compared

    @property
    def name(self) -> str:
        """What it is called, and its row."""
        return "-".join(str(value) for value in asdict(self).values())

    @property
    def large(self) -> bool:
        """Whether two cores take hours for a whole job."""
        return self.reduced and self.size != REFERENCE


def points(family: str, sizes: Sequence[str], *, quick: bool = False) -> list[Point]:
    """Every size with both methods; CLIP's middle one with other data too, and with nothing kept.

    ``quick``: with the usual data alone, and the shipped generators on reduced data too.
    """
    weigher = weighed.of(family)
    found = []
    for size in sizes:
        reduced = weigher.REDUCED_PACE != weigher.PACE and (quick or size != REFERENCE)
        usual = weigher.REDUCED_DATA if reduced else weigher.DATA
        others = OTHERS if size == MIDDLE and not quick else ()
        for samples, retained in (usual, *others):
            each = Point(size, None, samples, retained, family=family, reduced=reduced)
            found += [each, *(replace(each, method=method) for method in METHODS)]
    if MIDDLE in sizes and not quick:
        found.append(Point(MIDDLE, "razor", *weigher.DATA, caches=False))
    return found


def read(document: Path) -> list[Row]:
    """The rows of an earlier document's JSON. Raises ValueError where it holds none."""
    rows = json.loads(document.read_text(encoding="utf-8"))
    needed = {*KEYS} - {"family", "reduced"}
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and row.keys() >= needed for row in rows
    ):
        raise ValueError("no list of rows")
    return rows


def merged(earlier: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
    """The rows, and those earlier ones that were not measured anew; earlier ones first."""

    def key(row: Row) -> tuple[Any, ...]:
        return tuple({"family": "clip", "reduced": False, **row}[each] for each in KEYS)

    anew = {key(row) for row in rows}
    return [*(row for row in earlier if key(row) not in anew), *rows]


def measure(work: Path, points: Sequence[Point], told: Callable[[Point], None]) -> list[Row]:
    """A row for every point, one after the other; of what ran before, the row that it left.

    Raises OutOfMemory before anything is written where one does not fit into memory.
    """
    for family, size in dict.fromkeys((point.family, point.size) for point in points):
        weighed.of(family).must_fit(size)
    # As workers have it: the processes that are started here inherit it.
    os.environ.update(MKL_DYNAMIC="FALSE", OMP_WAIT_POLICY="passive")
    rows = []
    for point in points:
        told(point)
        kept = work / "speed" / f"{point.name}.json"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            weigher = weighed.of(point.family)
            places = weigher.checkpoint(work, point.size), weigher.retain(work, point.retained)
            row = asdict(point) | _apart(_measured, point, *places)
            if point.method is None:
                row["cold"] = _cold(point.family, *places)
            kept.write_text(json.dumps(row, indent=1), encoding="utf-8")
        rows.append(json.loads(kept.read_text(encoding="utf-8")))
    return rows


def _cold(family: str, checkpoint: Path, retain: Path) -> dict[str, float]:
    """In an interpreter of its own: a pool's child has imported what its parent runs."""
    command = [sys.executable, "-m", "razor.bench.cold", family, str(checkpoint), str(retain)]
    found: dict[str, float] = json.loads(subprocess.check_output(command, text=True))
    return found


def _apart(call: Callable[..., Row], *given: object) -> Row:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, *given).result()


def _measured(point: Point, checkpoint: Path, retain: Path) -> Row:
    torch.set_num_threads(point.threads)
    weigher = weighed.of(point.family)
    if point.reduced:
        weigher.reduce()
    family = weigher.load(checkpoint)
    shelf = weigher.shelf(retain, family)
    subject = weigher.subject(family, shelf, point.samples, point.seed)
    units = parameters_of(family.units())
    parameters = dict(family.model.named_parameters())
    material = subject.material
    row: Row = {
        "weights": sum(p.numel() for p in parameters.values()),
        "unit_bytes": sum(parameters[name].nbytes for name in units),
        "fit_pairs": len(material.retain_fit),
        "select_pairs": len(material.retain_select),
    }
    if point.method is None:
        cost.reset_peak_memory()
        subject.plain()
        return row | {"peak_memory_bytes": cost.peak_memory_bytes()}
    subject.caching(point.caches)
    counts = subject.counted()
    row["cold_job"], run = _job(subject, point, counts)
    if not point.large:
        row["warm_job"], run = _job(subject, point, counts)
    if point.method == "razor" and point.family == "clip":
        params = weigher.methods(reduced=point.reduced)["razor"]
        row["stream"] = streamed.beside_cat(run, params, point.family, checkpoint)
    with seeding.deterministic(point.seed):
        floor = subject.floor(point.seed, 1 if point.large else REPEATS)
    row["floor"] = {part: took.passed for part, took in floor.items()}
    row["computed_floor"] = {part: took.computed for part, took in floor.items()}
    return row


def _job(subject: Subject, point: Point, counts: Counts) -> tuple[Row, Run]:
    """One whole job as ``unlearn`` runs it, of scripted length."""
    weigher = weighed.of(point.family)
    params = weigher.methods(reduced=point.reduced)[point.method or ""]
    evaluations = int(getattr(params, "search_evaluations", 0))
    pace = weigher.REDUCED_PACE if point.reduced else weigher.PACE
    study = Forced(subject.study, evaluations, pace if point.method == "razor" else None)
    edit: Counter[str] = Counter()
    under_way = ""

    def tick(phase: str, fraction: float, figures: Mapping[str, float]) -> None:
        nonlocal under_way
        taken = counts.taken()
        if under_way in ("score", "edit"):
            edit.update(taken)
        under_way = phase

    task = Task("bench", 0, params, GateThresholds(), point.seed, any_direction=True)
    began = time.perf_counter()
    run = studied(cast(Study, study), [subject.material], task, tick)
    seconds, report = time.perf_counter() - began, run.report
    row = {
        "seconds": seconds,
        "phase_seconds": report.cost.phase_seconds,
        "phase_processor_seconds": report.cost.phase_processor_seconds,
        "forward_passes": report.cost.forward_passes,
        "backward_passes": report.cost.backward_passes,
        "peak_memory_bytes": report.cost.peak_memory_bytes,
        "patch_bytes": report.patch_bytes,
        "edited": [item.unit for item in report.edited],
        "edit_rows": dict(edit),
    }
    return row, run
