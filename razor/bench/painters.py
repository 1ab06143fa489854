"""The picture generators of the benchmark: shipped pipelines, drawn requests, what is retained."""

from __future__ import annotations

import io
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from api_schemas.concepts import Target, TargetKind
from razor import judges
from razor.bench.plan import Drawings
from razor.families import diffusion
from razor.material import Asked, Material, Shelf, assemble, read_shelf
from razor.reference import painted
from razor.reference.folders import SEEDS_PER_FOLDER
from razor.reference.painted import PEOPLE, SUBJECTS
from razor.reference.people import STYLES
from razor.retain import read_retain_set

WEIGHTS = Path(painted.__file__).parent / "weights"
#: Pictures of a request.
SAMPLES = 8
RETAINED = 24  # drawings of each subject


@dataclass(frozen=True)
class Painter:
    """One pipeline, and what can be asked of it."""

    family: diffusion.Diffusion
    shelf: Shelf
    drawn: Drawings

    def material(self, name: str, seed: int, samples: int = SAMPLES) -> Material:
        """The material of a request for a person, an object or a style."""
        shown = [_png(name, self.drawn.samples, number) for number in range(samples)]
        asked = Asked(Target(name=name, kind=kind_of(name)), shown)
        return assemble(self.shelf, asked, self.family.sizing, seed)


def shipped(kind: str) -> Path:
    """The folder of a shipped pipeline."""
    return WEIGHTS / kind


def load(
    folder: Path, judge: Path, work: Path, drawn: Drawings, without: Collection[str] = ()
) -> Painter:
    """A pipeline; nothing that it is asked to keep shows or names those ``without``."""
    family = diffusion.load(folder, "cpu", judges.load(judge, "cpu", dict(painted.PROMPTS)))
    retain = read_retain_set(retain_folder(work, drawn), list(painted.PROMPTS))
    kept = tuple(row for row in retain.rows if not set(row.labels.values()) & set(without))
    shelf = read_shelf(replace(retain, rows=kept), painted.PROMPTS, family.sizing)
    return Painter(family, shelf, drawn)


def retain_folder(work: Path, drawn: Drawings, retained: int = RETAINED) -> Path:
    """The drawings that are to be kept, so many of each subject, drawn once."""
    folder = work / f"painted-{drawn.retain}{'' if retained == RETAINED else f'-{retained}'}"
    if not folder.exists():
        painted.write_plain(folder, SUBJECTS, retained, drawn.retain)
    return folder


def kind_of(name: str) -> TargetKind:
    """Whether a name is a person's, an object's or a style's."""
    if name in STYLES:
        return TargetKind.STYLE
    return TargetKind.IDENTITY if name in PEOPLE else TargetKind.OBJECT


def _png(name: str, folder_seed: int, number: int) -> bytes:
    """A drawing of the target; of a style one of another subject each time."""
    style = name if name in STYLES else None
    subject = SUBJECTS[(5 * number) % len(SUBJECTS)] if style else name
    stream = io.BytesIO()
    seed = folder_seed * SEEDS_PER_FOLDER + number
    painted.plain(subject, seed, style=style).image.save(stream, "PNG")
    return stream.getvalue()
