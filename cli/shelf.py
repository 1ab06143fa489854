"""``razor models``: put a model on the shelf, see what is there."""

from __future__ import annotations

import csv
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api_schemas.families import Family
from cli.console import say, table
from cli.examples import epilog
from cli.failures import Refused, Usage, invalid
from cli.options import DEFAULT_URL, Data, Json, Url, connect, settings

if TYPE_CHECKING:
    from api_schemas.shelf import ModelRecord
    from registry.database import Database
    from registry.models import Model

INDEX = "index.csv"
REQUIRED_COLUMNS = ("path", "name", "caption")
OPERATOR = "operator"

commands = typer.Typer(no_args_is_help=True, help="The models that can be edited.")


@commands.command("add", epilog=epilog("models add"))
def add(
    record: Annotated[Path, typer.Argument(help="The model's TOML record.", exists=True)],
    data: Data = None,
) -> None:
    """Register a model from its record, in the data folder or the database of this installation.

    A record names the checkpoint folder and what the model must keep; relative paths start at the
    record. Registering the same record twice changes nothing. A record of four lines will do:

    id = "my-clip"

    family = "clip"

    checkpoint = "weights"

    retain.folder = "retain"
    """
    from registry.database import Database

    chosen = settings(data)
    chosen.data_folder.mkdir(parents=True, exist_ok=True)
    database = Database(chosen.database)
    try:
        database.migrate()
        model = register(database, read_record(record))
    finally:
        database.close()
    say(f"{model.record.id}  {model.digest}  domains {', '.join(model.domains)}")


@commands.command("list", epilog=epilog("models list"))
def list_models(json: Json = False, url: Url = DEFAULT_URL) -> None:
    """Show every model on a service's shelf."""
    with connect(url) as client:
        found = client.models()
    if json:
        say(found.model_dump_json(indent=2))
        return
    rows = [
        (m.id, str(m.family), str(m.latest_version), ", ".join(m.methods), m.digest)
        for m in found.items
    ]
    table(("model", "family", "version", "methods", "digest"), rows)


@commands.command("show", epilog=epilog("models show"))
def show(
    model: Annotated[str, typer.Argument(help="The model's id.")],
    json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show one model, its thresholds and its line of versions."""
    with connect(url) as client:
        view, versions = client.model(model), client.versions(model)
    if json:
        say(view.model_dump_json(indent=2))
        say(versions.model_dump_json(indent=2))
        return
    say(f"{view.id}  {view.family}  {view.digest}")
    say(f"measured on {', '.join(view.domains)}; methods {', '.join(view.methods)}")
    for name, value in view.thresholds.model_dump().items():
        say(f"{name} {value:g}")
    rows = [
        (str(v.number), v.patch_id or "-", v.job_id or "-", f"{v.created_at:%Y-%m-%d %H:%M}")
        for v in versions.items
    ]
    table(("version", "patch", "job", "created (UTC)"), rows)


def read_record(path: Path) -> ModelRecord:
    """The record with absolute paths. Raises Usage, which names the field."""
    from pydantic import ValidationError

    from api_schemas.shelf import ModelRecord, RetainSet

    try:
        with path.open("rb") as file:
            record = ModelRecord.model_validate(tomllib.load(file))
    except tomllib.TOMLDecodeError as error:
        raise Usage(f"{path} is not TOML: {error}") from None
    except ValidationError as error:
        raise Usage(f"{path}: {invalid(error)}") from None
    home = path.resolve().parent
    retain = RetainSet(folder=str((home / record.retain.folder).resolve()))
    checkpoint = str((home / record.checkpoint).resolve())
    judge = record.judge and str((home / record.judge).resolve())
    return record.model_copy(update={"checkpoint": checkpoint, "retain": retain, "judge": judge})


def register(database: Database, record: ModelRecord) -> Model:
    """Check the record against what is on disk and put it on the shelf.

    Raises Refused (other weights than the record says, an index without a column), NotACheckpoint
    and UnsafePath (the folder), ModelExists.
    """
    from api_schemas import methods
    from patches.digests import checkpoint_digest
    from registry import models

    check_index(record)
    check_judge(record)
    digest = checkpoint_digest(Path(record.checkpoint))
    if record.digest not in (None, digest):
        raise Refused(
            f"the checkpoint has digest {digest} and the record says {record.digest}; "
            "fetch the weights again, or correct the record if these are the ones you mean"
        )
    with database.transaction() as session:
        return models.add(
            session,
            record,
            digest=digest,
            domains=sorted(record.domains()),
            methods=methods.names(record.family),
            principal=OPERATOR,
            now=datetime.now(UTC),
        )


def check_judge(record: ModelRecord) -> None:
    """A picture generator has a folder with what names its pictures. Raises Refused."""
    if record.family is not Family.DIFFUSION:
        return
    if record.judge is None:
        raise Refused(
            "a picture generator needs a judge of what it paints; add judge = "
            '"FOLDER OF A CLIP MODEL" to the record'
        )
    if not any(Path(record.judge).glob("*.safetensors")):
        raise Refused(
            f"there are no safetensors weights in {record.judge}; give the folder of a CLIP model "
            "as judge"
        )


def check_index(record: ModelRecord) -> None:
    """The retain set has an index with a column for each domain of the prompts. Raises Refused."""
    index = Path(record.retain.folder) / INDEX
    if not index.is_file():
        raise Refused(f"there is no {index}; write one with the columns path, name, caption")
    with index.open(encoding="utf-8-sig", newline="") as file:
        columns = next(csv.reader(file), [])
    wanted = dict.fromkeys((*REQUIRED_COLUMNS, *record.domains()))
    missing = [column for column in wanted if column not in columns]
    if missing:
        raise Refused(
            f"{index} has no column {', '.join(missing)}; add it, or take its prompts or "
            "questions out of the record"
        )
