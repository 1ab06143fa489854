"""RAZOR with default settings on every person of the reference CLIP; prints a table, writes JSON.

    python benchmarks/clip_targets.py --out runs/clip_targets.json

Samples, retain set and test pictures are drawings with seeds that training never saw.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch

from api_schemas.concepts import Target
from api_schemas.methods import Razor
from api_schemas.shelf import GateThresholds
from razor import unlearn
from razor.families import clip
from razor.material import Shelf, assemble, read_shelf
from razor.reference import captions, drawings, folders, people
from razor.reference.clip import shipped_clip
from razor.retain import read_retain_set

SAMPLES, PROBES, RETAIN_PER_NAME = 8, 40, 28
SAMPLE_SEED, PROBE_SEED, RETAIN_SEED = 2_000_000, 3_000_000, 4
SHOWN = ("M1", "M2", "M4", "M5", "M6", "M7_retain", "M7_target")


def main() -> None:
    """Runs the targets one after another on one warm model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", action="append", help="a person; default: all 24")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    family = clip.load(shipped_clip())
    with tempfile.TemporaryDirectory() as work:
        folder = folders.write_folder(
            Path(work) / "retain", people.NAMES, RETAIN_PER_NAME, RETAIN_SEED
        )
        retain = read_retain_set(folder, list(captions.PROMPTS))
        shelf = read_shelf(retain, captions.PROMPTS, family.network.sizing)
    names = chosen.name or [person.name for person in people.PEOPLE]
    rows = [run(family, shelf, name, chosen.seed) for name in names]
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(rows, indent=1) + "\n")
    summarise(rows)


def run(family: clip.Clip, shelf: Shelf, name: str, seed: int) -> dict[str, object]:
    """One target: the report as JSON, with the target's invented name beside it."""
    material = assemble(
        shelf,
        Target(name=name),
        [png(name, SAMPLE_SEED + number) for number in range(SAMPLES)],
        [png(name, PROBE_SEED + number) for number in range(PROBES)],
        family.network.sizing,
        seed,
    )
    task = unlearn.Task("reference-clip", 0, Razor(), GateThresholds(), seed)
    start = time.perf_counter()
    report = unlearn.unlearn(family, material, task, quiet).report
    seconds = time.perf_counter() - start
    found = {metric.id: metric for metric in report.metrics}
    verdict = report.gate.verdict.value if report.gate else "unknown"
    figures = " ".join(f"{key} {found[key].after.value:6.1f}" for key in SHOWN if key in found)
    print(f"{name:16s} {verdict:8s} {figures}  {seconds:5.1f} s", flush=True)
    return {"target": name, **report.model_dump(mode="json", exclude={"scores"})}


def summarise(rows: Sequence[Mapping[str, object]]) -> None:
    """Means and worst cases over the targets."""
    for key in SHOWN:
        metrics = [m for row in rows for m in row["metrics"] if m["id"] == key]  # type: ignore[attr-defined]
        after = [m["after"]["value"] for m in metrics]
        change = [m["change"]["value"] for m in metrics]
        print(
            f"{key:10s} before {statistics.mean(m['before']['value'] for m in metrics):6.2f}"
            f"  after mean {statistics.mean(after):6.2f} ({min(after):.1f} to {max(after):.1f})"
            f"  change {min(change):+.1f} to {max(change):+.1f}  n {metrics[0]['after']['n']}"
        )
    passed = sum(row["gate"]["verdict"] == "pass" for row in rows if row["gate"])  # type: ignore[index]
    print(f"gate: {passed} of {len(rows)} pass")


def png(name: str, seed: int) -> bytes:
    """One drawing as PNG."""
    stream = io.BytesIO()
    drawings.draw(name, seed).image.save(stream, "PNG")
    return stream.getvalue()


def quiet(phase: str, fraction: float, figures: Mapping[str, float]) -> None:
    """Nobody listens."""


if __name__ == "__main__":
    main()
