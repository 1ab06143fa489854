"""What a job costs on CLIP models of real shapes, beside the least that it could cost.

The floor of an edit is the time of one forward and backward pass over the fit data, and of as many
plain forward passes as its readings asked for, all measured in the same process. Every point is a
process of its own, so that peak memory is its own.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
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

from api_schemas.methods import Razor, Slug
from api_schemas.shelf import GateThresholds
from razor import cost, seeding
from razor.bench import portraits, shapes, streamed, world
from razor.bench.counted import Rows
from razor.bench.plan import COMPARISON
from razor.bench.scripted import Forced
from razor.families import clip
from razor.families.clip_fit import ClipFit
from razor.gradients import mean_gradient, parameters_of
from razor.material import Material, assemble, read_shelf
from razor.protocols import Study
from razor.reference import captions
from razor.reference.clip import shipped_clip
from razor.retain import read_retain_set
from razor.studies.clip import ClipStudy
from razor.unlearn import Run, Task, studied

Row = dict[str, Any]

TARGET: Final = "Mara Venn"
#: The model that the project ships, beside those of ``shapes``.
REFERENCE: Final = "reference"
SIZES: Final = (REFERENCE, *shapes.CLIP)
#: What two cores weigh within an hour; larger ones are asked for by name.
USUAL_SIZES: Final = (REFERENCE, "vit-s-32", "vit-b-32")
#: Data of every size, and what the size in the middle is also measured with.
USUAL: Final = 8, 4
MIDDLE: Final = "vit-s-32"
OTHERS: Final = ((16, 4), (8, 8))
METHODS: Final[Mapping[str, Razor | Slug]] = {"razor": Razor(), "slug": Slug()}
#: Of each part of the floor.
REPEATS: Final = 3
#: Texts that a text's forward is measured with.
TEXTS: Final = 256


@dataclass(frozen=True)
class Point:
    """One measurement: a model, how much data, and a method; without one, plain inference."""

    size: str
    method: str | None = None
    samples: int = 8
    retained: int = 4  # pictures of each person
    seed: int = 0
    threads: int = 2
    caches: bool = True

    @property
    def name(self) -> str:
        """What it is called, and its row."""
        return "-".join(str(value) for value in asdict(self).values())


def points(sizes: Sequence[str], *, quick: bool = False) -> list[Point]:
    """Every size with both methods; the middle one with other data too, and with nothing kept.

    ``quick``: with the usual data alone.
    """
    found = []
    for size in sizes:
        others = OTHERS if size == MIDDLE and not quick else ()
        for samples, retained in (USUAL, *others):
            each = Point(size, None, samples, retained)
            found += [each, *(replace(each, method=method) for method in METHODS)]
    if MIDDLE in sizes and not quick:
        found.append(Point(MIDDLE, "razor", *USUAL, caches=False))
    return found


def measure(work: Path, points: Sequence[Point], told: Callable[[Point], None]) -> list[Row]:
    """A row for every point, one after the other; of what ran before, the row that it left."""
    # As workers have it: the processes that are started here inherit it.
    os.environ.update(MKL_DYNAMIC="FALSE", OMP_WAIT_POLICY="passive")
    rows = []
    for point in points:
        told(point)
        kept = work / "speed" / f"{point.name}.json"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            places = _folder(work, point), _retain(work, point)
            row = asdict(point) | _apart(_measured, point, *places)
            if point.method is None:
                row["cold"] = _cold(*places)
            kept.write_text(json.dumps(row, indent=1), encoding="utf-8")
        rows.append(json.loads(kept.read_text(encoding="utf-8")))
    return rows


def _cold(checkpoint: Path, retain: Path) -> dict[str, float]:
    """In an interpreter of its own: a pool's child has imported what its parent runs."""
    command = [sys.executable, "-m", "razor.bench.cold", str(checkpoint), str(retain)]
    found: dict[str, float] = json.loads(subprocess.check_output(command, text=True))
    return found


def _apart(call: Callable[..., Row], *given: object) -> Row:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, *given).result()


def _folder(work: Path, point: Point) -> Path:
    if point.size == REFERENCE:
        return shipped_clip()
    return shapes.clip(work / "shapes" / point.size, point.size)


def _retain(work: Path, point: Point) -> Path:
    return world.retain_folder(work, replace(COMPARISON, retained=point.retained))


def _measured(point: Point, checkpoint: Path, retain: Path) -> Row:
    torch.set_num_threads(point.threads)
    family = clip.load(checkpoint)
    rows = read_retain_set(retain, list(captions.PROMPTS))
    shelf = read_shelf(rows, captions.PROMPTS, family.sizing)
    asked = portraits.asked(COMPARISON, TARGET, point.samples)
    material = assemble(shelf, asked, family.sizing, point.seed)
    units = parameters_of(family.units())
    parameters = dict(family.model.named_parameters())
    row: Row = {
        "weights": sum(p.numel() for p in parameters.values()),
        "unit_bytes": sum(parameters[name].nbytes for name in units),
        "fit_pairs": len(material.retain_fit),
        "select_pairs": len(material.retain_select),
    }
    if point.method is None:
        return row | _plain(family, material)
    family.resumption.on = family.known.on = point.caches
    counted = Rows(family)
    row["cold_job"], _ = _job(family, material, point, counted)
    row["warm_job"], run = _job(family, material, point, counted)
    if point.method == "razor":
        params = METHODS["razor"]
        row["stream"] = streamed.beside_cat(run, params, family.name, checkpoint)
    family.known.on = family.network.packing.on = False  # the floor is of whole rows
    with seeding.deterministic(point.seed):
        row["floor"] = _floor(family, material, point.seed)
    return row


def _plain(family: clip.Clip, material: Material) -> Row:
    """Inference over the fit data as it is run where no gradient is wanted."""
    cost.reset_peak_memory()
    family.embed_images(material.retain_fit.pixels)
    family.embed_texts(material.retain_fit.captions)
    return {"peak_memory_bytes": cost.peak_memory_bytes()}


def _job(family: clip.Clip, material: Material, point: Point, counted: Rows) -> tuple[Row, Run]:
    """One whole job as ``unlearn`` runs it, of scripted length."""
    params = METHODS[point.method or ""]
    study = Forced(ClipStudy(family), params.search_evaluations, point.method == "razor")
    edit: Counter[str] = Counter()
    under_way = ""

    def tick(phase: str, fraction: float, figures: Mapping[str, float]) -> None:
        nonlocal under_way
        taken = counted.taken()
        if under_way in ("score", "edit"):
            edit.update(taken)
        under_way = phase

    task = Task("bench", 0, params, GateThresholds(), point.seed, any_direction=True)
    began = time.perf_counter()
    run = studied(cast(Study, study), [material], task, tick)
    seconds, report = time.perf_counter() - began, run.report
    row = {
        "seconds": seconds,
        "phase_seconds": report.cost.phase_seconds,
        "forward_passes": report.cost.forward_passes,
        "backward_passes": report.cost.backward_passes,
        "peak_memory_bytes": report.cost.peak_memory_bytes,
        "patch_bytes": report.patch_bytes,
        "edited": [item.unit for item in report.edited],
        "edit_rows": dict(edit),
    }
    return row, run


def _floor(family: clip.Clip, material: Material, seed: int) -> dict[str, float]:
    """Seconds of one forward and backward over the fit data, and of a row's plain forward."""
    names = parameters_of(family.units())
    fit = ClipFit(family, material, seed)
    batch = fit.forget_batch(seeding.generator(seed, "floor"))

    def once() -> None:
        mean_gradient(family.model, names, family.retain_loss, fit.retain_batches())
        mean_gradient(family.model, names, family.forget_loss, [batch])

    pixels = material.retain_fit.pixels.clone()  # known to stand in no retain set
    # Different ones, for equal texts are encoded once; as long as those of a reading.
    sentences = [f"{text} {number}" for number in range(TEXTS) for text in material.prompts()]
    texts = sentences[:TEXTS]
    return {
        "fit": _median(once),
        "picture": _median(lambda: family.embed_images(pixels)) / len(pixels),
        "text": _median(lambda: family.embed_texts(texts)) / len(texts),
    }


def _median(call: Callable[[], object]) -> float:
    found = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return statistics.median(found)
