"""What the rows of the benchmark of speed say: floors, ratios, names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from razor.bench.speed import Row
from razor.bench.weighed import REFERENCE

#: Asked for, by family: the edit over its floor.
FLOOR: Final[Mapping[str, float]] = {"clip": 1.5, "diffusion": 2.0, "vlm": 2.0}
#: Job over SLUG's, memory, cold over warm, stream over cat; a patch, in GB.
SLUG, MEMORY, WARM, STREAM, PATCH = 1.0, 1.35, 3.0, 1.3, 0.06
SHIPPED: Final[Mapping[str, str]] = {
    "clip": "the shipped CLIP",
    "diffusion": "the shipped generator",
    "vlm": "the shipped LLaVA",
}
NAMES: Final[Mapping[str, str]] = {
    "vit-s-32": "ViT-S/32",
    "vit-b-32": "ViT-B/32",
    "vit-b-16": "ViT-B/16",
    "vit-l-14": "ViT-L/14",
    "sd-1.5-256": "SD 1.5 at 256 px",
    "sd-1.5": "SD 1.5",
    "sd-3-medium": "SD 3 medium",
    "llava-0.5b": "LLaVA, ViT-B/16 + Qwen2-0.5B",
    "llava-1.1b": "LLaVA, ViT-L/14-336 + TinyLlama-1.1B",
    "llava-1.5-7b": "LLaVA 1.5 7B",
}
#: Family -> part of the floor -> the rows that are counted of it.
PARTS: Final[Mapping[str, Mapping[str, str]]] = {
    "clip": {"text": "text", "picture": "image"},
    "diffusion": {"latent": "latent", "text": "text", "decoded": "decoded"},
    "vlm": {"token": "token", "picture": "picture", "word": "word"},
}
UNITS: Final[Mapping[str, str]] = {
    "text": "texts",
    "picture": "pictures",
    "latent": "noisy latents",
    "decoded": "pictures decoded",
    "token": "tokens",
    "word": "words said",
}


def family_of(row: Row) -> str:
    """Rows of CLIP models did not always say so."""
    return str(row.get("family", "clip"))


def named(row: Row) -> str:
    """The model."""
    size = row["size"]
    name = SHIPPED[family_of(row)] if size == REFERENCE else NAMES[size]
    return f"{name}, reduced data" if row.get("reduced") and size == REFERENCE else name


def data(row: Row) -> str:
    """The model and what it was shown."""
    return f"{named(row)}, {row['fit_pairs']} fit pairs, {row['samples']} samples"


def method(row: Row) -> str:
    """Which one, and whether anything was kept between passes."""
    return str(row["method"]).upper() + ("" if row["caches"] else ", nothing kept")


def jobs(row: Row) -> list[str]:
    """The jobs that were run of it: large models have no second one."""
    return [job for job in ("cold_job", "warm_job") if job in row]


def read(row: Row, job: str, mode: str = "forward") -> dict[str, int]:
    """Rows that an edit's readings, or its gradients, asked for, by part of the floor."""
    counted = row[job]["edit_rows"]
    return {part: counted.get(f"{kind} {mode}", 0) for part, kind in PARTS[family_of(row)].items()}


def parts(row: Row) -> dict[str, float]:
    """Seconds of each part of the floor: computed ones, where the row has them."""
    found: dict[str, float] = row["computed_floor" if "computed_floor" in row else "floor"]
    return found


def edit(row: Row, job: str) -> float:
    """Seconds of the edit, of the same kind."""
    phases = "phase_processor_seconds" if "computed_floor" in row else "phase_seconds"
    return float(row[job][phases]["edit"])


def read_seconds(row: Row, job: str) -> float:
    """What those of the readings cost at least."""
    return float(sum(count * parts(row)[part] for part, count in read(row, job).items()))


def floor(row: Row, job: str) -> float:
    """The least that the edit could cost, in seconds."""
    once = parts(row)["fit"] if job == "cold_job" else 0.0
    return float(once + read_seconds(row, job))


def ratio_to_floor(row: Row, job: str = "cold_job") -> float:
    """The edit over its floor."""
    return edit(row, job) / floor(row, job)


def job_seconds(row: Row, job: str) -> float:
    """What a job took: computed seconds, where the row has them."""
    computed = row[job].get("phase_processor_seconds", {})
    return float(sum(computed.values()) or row[job]["seconds"])


def ratio_to_slug(razor: Row, slug: Row, job: str) -> float:
    """RAZOR's job over SLUG's."""
    return job_seconds(razor, job) / job_seconds(slug, job)


def memory(row: Row, plain: Row) -> float:
    """Peak of a cold job over plain inference and one gradient of the units."""
    return float(
        row["cold_job"]["peak_memory_bytes"] / (plain["peak_memory_bytes"] + row["unit_bytes"])
    )


def start(plain: Row) -> float:
    """Seconds of a cold start."""
    return float(sum(plain["cold"].values()))


def triples(rows: Sequence[Row]) -> Iterator[tuple[Row, Row, Row]]:
    """RAZOR's row, SLUG's and plain inference's of each point."""
    keys = ("family", "size", "samples", "retained", "seed", "threads", "reduced")
    by: dict[tuple[Any, ...], dict[str | None, Row]] = {}
    for row in rows:
        if row["caches"]:
            whole = {"family": "clip", "reduced": False, **row}
            by.setdefault(tuple(whole[key] for key in keys), {})[row["method"]] = row
    for found in by.values():
        if {"razor", "slug", None} <= found.keys():
            yield found["razor"], found["slug"], found[None]
