"""Models and pictures of the benchmark: the drawn reference, or faces from a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from api_schemas.concepts import Target
from razor.bench import portraits
from razor.bench.plan import COMPARISON, GROUPS, QUICK, Drawings, groups_of
from razor.families import clip
from razor.material import Asked, Material, Shelf, assemble, assemble_all, read_shelf
from razor.reference import captions, folders, people
from razor.reference.clip import SIZE, shipped_clip, shipped_gold, train_clip
from razor.reference.pictures import load_pictures, split_pictures
from razor.retain import read_retain_set

#: Training steps on a folder of faces: it is a twentieth of the drawings.
FACES_STEPS = 400
#: Seed of the trainings, and of the split of a folder into trained-on and held-out pictures.
TRAINING_SEED = 0


@dataclass
class World:
    """One base model, what can be asked of it, and the models that never knew a target."""

    family: clip.Clip
    shelf: Shelf
    asked: Callable[[str], Asked]
    golds: dict[str, Path]  # target -> folder of the gold model
    mates: dict[str, tuple[str, ...]]  # target -> whom its gold model does not know either

    def material(self, name: str, seed: int, others: Sequence[str] = ()) -> Material:
        """The material of a request for one target."""
        sizing = self.family.sizing
        return assemble(self.shelf, self.asked(name), sizing, seed, (), others)

    def materials(self, names: Sequence[str], seed: int) -> tuple[Material, ...]:
        """The material of one request for several targets."""
        asked = [self.asked(name) for name in names]
        return assemble_all(self.shelf, asked, self.family.sizing, seed)


def reference(work: Path, drawn: Drawings = COMPARISON) -> World:
    """The shipped CLIP and its drawings. Gold models other than the shipped one lie in ``work``."""
    family = clip.load(shipped_clip())
    templates = captions.PROMPTS
    retain = read_retain_set(retain_folder(work, drawn), list(templates))
    shelf = read_shelf(retain, templates, family.sizing)
    golds = {
        name: gold_folder(work, number) for number, group in enumerate(GROUPS) for name in group
    }
    return World(family, shelf, partial(portraits.asked, drawn), golds, _mates(GROUPS))


def retain_folder(work: Path, drawn: Drawings) -> Path:
    """The drawings that are to be kept, drawn once."""
    folder = work / f"retain-{drawn.retain}-{drawn.retained}"
    if not folder.exists():
        folders.write_folder(folder, people.NAMES, drawn.retained, drawn.retain)
    return folder


def gold_folder(work: Path, number: int) -> Path:
    """Where the gold model of a group lies; that of the quick targets is shipped."""
    return shipped_gold() if GROUPS[number] == QUICK else work / "gold" / str(number + 1)


def train_golds(work: Path, number: int) -> None:
    """Trains the gold model of a group where it is not there yet."""
    folder = gold_folder(work, number)
    if not folder.exists():
        train_clip(folder, TRAINING_SEED, GROUPS[number])


def faces(work: Path, data: Path) -> World:
    """A CLIP trained on a folder's pictures; a request brings the ones that it was trained on.

    The held-out pictures are probe samples. Retained pictures of every role were trained on, but
    for the held-out ones among them.
    """
    family = clip.load(work / "faces" / "base")
    templates = {"name": captions.PROMPTS["name"]}
    retain = read_retain_set(data, list(templates))
    shelf = read_shelf(retain, templates, family.sizing)
    trained, held_out = split_pictures(load_pictures(data, SIZE), TRAINING_SEED)

    def asked(name: str) -> Asked:
        shown = [data / row.path for row in trained.rows if row.name == name]
        fresh = [data / row.path for row in held_out.rows if row.name == name]
        return Asked(
            Target(name=name),
            [path.read_bytes() for path in shown],
            [path.read_bytes() for path in fresh],
        )

    groups = face_groups(data)
    golds = {
        name: face_folder(work, number + 1) for number, group in enumerate(groups) for name in group
    }
    return World(family, shelf, asked, golds, _mates(groups))


def face_groups(data: Path) -> tuple[tuple[str, ...], ...]:
    """The folder's people, four a group."""
    names = dict.fromkeys(row.name for row in folders.read_folder(data))
    return groups_of(tuple(names), 4)


def face_folder(work: Path, number: int) -> Path:
    """Where the base (0) or a gold model on faces lies."""
    return work / "faces" / (f"gold-{number}" if number else "base")


def train_faces(work: Path, data: Path, number: int) -> None:
    """Trains the base (0) or a gold model on the folder where it is not there yet."""
    folder = face_folder(work, number)
    without = face_groups(data)[number - 1] if number else ()
    if not folder.exists():
        train_clip(folder, TRAINING_SEED, without, data, FACES_STEPS)


def _mates(groups: Sequence[Sequence[str]]) -> dict[str, tuple[str, ...]]:
    return {
        name: tuple(other for other in group if other != name) for group in groups for name in group
    }
