"""The models that come with the package: their records, and the pictures that they must keep."""

from __future__ import annotations

from pathlib import Path

from api_schemas.families import Family
from api_schemas.shelf import ModelRecord, RetainSet

MODEL_ID = "reference-clip"
#: Folder of a shipped picture generator -> its id on the shelf; the first holds the judge of all.
GENERATORS = {"diffusion": "reference-diffusion", "diffusion3": "reference-diffusion3"}
#: Folder of a shipped vision-language model -> its id on the shelf.
TALKERS = {"llava": "reference-llava", "llava-next": "reference-llava-next"}
# Folder seed 0 trained the shipped weights. Each use below has a seed of its own, so no picture
# is ever seen in two roles.
RETAIN_SEED = 1
SAMPLES_SEED = 2
UNSEEN_SEED = 3
RETAIN_PER_NAME = 30
PLAIN_RETAIN_PER_NAME = 24


def checkpoint_folder(kind: str = "clip") -> Path:
    """The folder of a shipped model, found without importing torch."""
    import razor.reference

    return Path(razor.reference.__file__).parent / "weights" / kind


def retain_folder(data_folder: Path) -> Path:
    """The retain set's folder; drawn when it is not there, about four seconds."""
    from razor.reference.folders import INDEX, write_folder
    from razor.reference.people import NAMES

    folder = data_folder / "reference" / "retain"
    if not (folder / INDEX).is_file():
        write_folder(folder, NAMES, RETAIN_PER_NAME, RETAIN_SEED)
    return folder


def plain_retain_folder(data_folder: Path) -> Path:
    """The same for the picture generators, as they were taught to paint."""
    from razor.reference.folders import INDEX
    from razor.reference.painted import SUBJECTS, write_plain

    folder = data_folder / "reference" / "retain-plain"
    if not (folder / INDEX).is_file():
        write_plain(folder, SUBJECTS, PLAIN_RETAIN_PER_NAME, RETAIN_SEED)
    return folder


def portraits_folder(data_folder: Path) -> Path:
    """The same for the vision-language models, strangers among them."""
    from razor.reference.folders import INDEX
    from razor.reference.questions import write_portraits

    folder = data_folder / "reference" / "retain-portraits"
    if not (folder / INDEX).is_file():
        write_portraits(folder, RETAIN_PER_NAME, RETAIN_SEED)
    return folder


def record(data_folder: Path) -> ModelRecord:
    """The shipped CLIP's record for this data folder, its retain set drawn."""
    from razor.reference.captions import PROMPTS

    return ModelRecord(
        id=MODEL_ID,
        family=Family.CLIP,
        checkpoint=str(checkpoint_folder()),
        retain=RetainSet(folder=str(retain_folder(data_folder))),
        prompts=PROMPTS,
    )


def generator_record(kind: str, retain: Path) -> ModelRecord:
    """The record of a shipped picture generator; both are judged by the same judge."""
    from razor.reference.painted import PROMPTS

    return ModelRecord(
        id=GENERATORS[kind],
        family=Family.DIFFUSION,
        checkpoint=str(checkpoint_folder(kind)),
        judge=str(checkpoint_folder("diffusion")),
        retain=RetainSet(folder=str(retain)),
        prompts=PROMPTS,
    )


def talker_record(kind: str, retain: Path) -> ModelRecord:
    """The record of a shipped vision-language model."""
    from razor.reference.questions import RECORDED

    return ModelRecord(
        id=TALKERS[kind],
        family=Family.VLM,
        checkpoint=str(checkpoint_folder(kind)),
        retain=RetainSet(folder=str(retain)),
        questions=dict(RECORDED),
    )


def records(data_folder: Path) -> list[ModelRecord]:
    """Every shipped model's record."""
    plain, portraits = plain_retain_folder(data_folder), portraits_folder(data_folder)
    return [
        record(data_folder),
        *(generator_record(kind, plain) for kind in GENERATORS),
        *(talker_record(kind, portraits) for kind in TALKERS),
    ]
