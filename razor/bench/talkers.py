"""The vision-language models of the benchmark: checkpoints, drawn requests, what is retained."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from razor.bench import portraits
from razor.bench.plan import Drawings
from razor.families import vlm
from razor.material import Material, Shelf, assemble, read_shelf
from razor.reference import questions
from razor.retain import read_retain_set

#: Pictures of a request: with eight, four of them to fit, a projector learns those four.
SAMPLES = 16
WEIGHTS = Path(questions.__file__).parent / "weights"


@dataclass(frozen=True)
class Speaker:
    """One model, and what can be asked of it."""

    family: vlm.Vlm
    shelf: Shelf
    drawn: Drawings

    def material(self, name: str, seed: int, samples: int = SAMPLES) -> Material:
        """The material of a request for a person."""
        return assemble(
            self.shelf, portraits.asked(self.drawn, name, samples), self.family.sizing, seed
        )


def shipped(kind: str) -> Path:
    """The folder of a shipped model."""
    return WEIGHTS / kind


def load(folder: Path, work: Path, drawn: Drawings, without: Collection[str] = ()) -> Speaker:
    """A model; nothing that it is asked to keep shows those ``without``."""
    family = vlm.load(folder, "cpu")
    retain = read_retain_set(retain_folder(work, drawn), list(questions.QUESTIONS))
    kept = tuple(row for row in retain.rows if row.labels["name"] not in without)
    shelf = read_shelf(replace(retain, rows=kept), questions.RECORDED, family.sizing)
    return Speaker(family, shelf, drawn)


def retain_folder(work: Path, drawn: Drawings) -> Path:
    """The drawings that are to be kept, drawn once."""
    folder = work / f"portraits-{drawn.retain}-{drawn.retained}"
    if not folder.exists():
        questions.write_portraits(folder, drawn.retained, drawn.retain)
    return folder
