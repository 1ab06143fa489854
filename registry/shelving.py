"""What a record must hold true of the files that it names before its model goes on the shelf."""

from __future__ import annotations

import csv
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy.orm import Session

from api_schemas import methods
from api_schemas.families import Family
from api_schemas.shelf import ModelRecord
from registry import models
from registry.errors import RecordUnfit
from registry.models import Model

INDEX: Final = "index.csv"
REQUIRED_COLUMNS: Final = ("path", "name", "caption")


def register(
    session: Session, record: ModelRecord, *, digest: str, principal: str, now: datetime
) -> Model:
    """The model is on the shelf, its record checked; ``digest`` is what its checkpoint has.

    Raises ``RecordUnfit`` (other weights than the record says, an index without a column, no judge
    of generated pictures), ``ModelExists``.
    """
    check_index(record)
    check_judge(record)
    if record.digest not in (None, digest):
        raise RecordUnfit(
            "digest",
            f"the checkpoint has digest {digest} and the record says {record.digest}; "
            "fetch the weights again, or correct the record if these are the ones you mean",
        )
    return models.add(
        session,
        record,
        digest=digest,
        domains=sorted(record.domains()),
        methods=methods.names(record.family),
        principal=principal,
        now=now,
    )


def check_judge(record: ModelRecord) -> None:
    """A picture generator has a folder with what names its pictures. Raises ``RecordUnfit``."""
    if record.family is not Family.DIFFUSION:
        return
    if record.judge is None:
        raise RecordUnfit(
            "judge",
            "a picture generator needs a judge of what it paints; add judge = "
            '"FOLDER OF A CLIP MODEL" to the record',
        )
    if not any(Path(record.judge).glob("*.safetensors")):
        raise RecordUnfit(
            "judge",
            f"there are no safetensors weights in {record.judge}; give the folder of a CLIP model "
            "as judge",
        )


def check_index(record: ModelRecord) -> None:
    """The retain set has an index with a column for each domain. Raises ``RecordUnfit``."""
    index = Path(record.retain.folder) / INDEX
    if not index.is_file():
        raise RecordUnfit(
            "retain", f"there is no {index}; write one with the columns path, name, caption"
        )
    try:
        with index.open(encoding="utf-8-sig", newline="") as file:
            columns = next(csv.reader(file), [])
    except (UnicodeDecodeError, csv.Error):
        raise RecordUnfit("retain", f"{index} is no CSV in UTF-8; write it anew") from None
    wanted = dict.fromkeys((*REQUIRED_COLUMNS, *record.domains()))
    missing = [column for column in wanted if column not in columns]
    if missing:
        raise RecordUnfit(
            "retain",
            f"{index} has no column {', '.join(missing)}; add it, or take its prompts or "
            "questions out of the record",
        )
