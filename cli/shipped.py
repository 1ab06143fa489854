"""The model that comes with the package: its record, and the pictures that it must keep."""

from __future__ import annotations

from pathlib import Path

from api_schemas.families import Family
from api_schemas.shelf import ModelRecord, RetainSet

MODEL_ID = "reference-clip"
# Folder seed 0 trained the shipped weights. Each use below has a seed of its own, so no picture
# is ever seen in two roles.
RETAIN_SEED = 1
SAMPLES_SEED = 2
UNSEEN_SEED = 3
RETAIN_PER_NAME = 30


def checkpoint_folder() -> Path:
    """The shipped CLIP's folder, found without importing torch."""
    import razor.reference

    return Path(razor.reference.__file__).parent / "weights" / "clip"


def retain_folder(data_folder: Path) -> Path:
    """The retain set's folder; drawn when it is not there, about four seconds."""
    from razor.reference.folders import INDEX, write_folder
    from razor.reference.people import NAMES

    folder = data_folder / "reference" / "retain"
    if not (folder / INDEX).is_file():
        write_folder(folder, NAMES, RETAIN_PER_NAME, RETAIN_SEED)
    return folder


def record(data_folder: Path) -> ModelRecord:
    """The shipped model's record for this data folder, its retain set drawn."""
    from razor.reference.captions import PROMPTS

    return ModelRecord(
        id=MODEL_ID,
        family=Family.CLIP,
        checkpoint=str(checkpoint_folder()),
        retain=RetainSet(folder=str(retain_folder(data_folder))),
        prompts=PROMPTS,
    )
