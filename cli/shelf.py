"""``razor models``: put a model on the shelf, see what is there."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api_schemas.reasons import RevocationReason
from cli.console import say, table
from cli.examples import epilog
from cli.failures import Refused, Usage, invalid
from cli.options import DEFAULT_URL, Data, Json, Url, connect, settings

if TYPE_CHECKING:
    from api_schemas.decisions import Revoked
    from api_schemas.shelf import ModelRecord, VersionView
    from registry.database import Database
    from registry.models import Model

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
        (
            str(v.number),
            "-" if v.parent is None else str(v.parent),
            v.patch_id or "-",
            v.job_id or "-",
            f"{v.created_at:%Y-%m-%d %H:%M}",
            _revoked(v),
        )
        for v in versions.items
    ]
    table(("version", "parent", "patch", "job", "created (UTC)", "revoked"), rows)


@commands.command("weights", epilog=epilog("models weights"))
def weights(
    model: Annotated[str, typer.Argument(help="The model's id.")],
    out: Annotated[Path, typer.Option(help="The file to write: safetensors, or a tar.")],
    version: Annotated[
        int | None,
        typer.Option(help="The version; the latest when left out, 0 = as registered."),
    ] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Fetch the whole weights of a model's version, ready to load; a broken download goes on."""
    with connect(url) as client:
        number = client.model(model).latest_version if version is None else version
        if client.version_is_a_folder(model, number) and out.suffix != ".tar":
            raise Usage(f"version {number} comes as a tar of a folder; give --out a .tar file")
        client.download_version(model, number, out)
    say(f"{out}: version {number} of {model}, {out.stat().st_size} bytes")


@commands.command("revoke", epilog=epilog("models revoke"))
def revoke(
    model: Annotated[str, typer.Argument(help="The model's id.")],
    version: Annotated[int, typer.Argument(help="The version to take back.")],
    reason: Annotated[RevocationReason, typer.Option(help="Why.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="As the operator, on this installation's data folder instead of over HTTP: any "
            "tenant's version."
        ),
    ] = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Take a version out of a model's line, with all that stood on it.

    Requests whose versions went along run again by themselves where their pictures are still
    there; the others have to be posted again, and until then the model knows those targets.
    """
    if data is None:
        with connect(url) as client:
            found = client.revoke(model, version, reason)
    else:
        found = _revoke_here(data, model, version, reason)
    if json:
        say(found.model_dump_json(indent=2))
        return
    say(f"version {found.version} of {model} is revoked; the latest is {found.latest_version}")
    rows = [
        (str(one.version), one.job_id or "another tenant's", one.state, one.rerun or "-")
        for one in found.affected
    ]
    if rows:
        table(("went along", "job", "state", "runs again as"), rows)


def _revoke_here(data: Path, model: str, version: int, reason: RevocationReason) -> Revoked:
    from registry import revoking
    from registry.database import Database
    from registry.stores import store_of

    chosen = settings(data)
    database = Database(chosen.database)
    try:
        with database.transaction() as session:
            return revoking.revoke(
                session,
                model,
                version,
                tenant=None,
                principal=OPERATOR,
                reason=reason,
                stored=store_of(chosen).exists,
                now=datetime.now(UTC),
            )
    finally:
        database.close()


def _revoked(version: VersionView) -> str:
    if version.revoked_at is None:
        return "-"
    why = version.revoked_reason or f"with version {version.revoked_with}"
    return f"{version.revoked_at:%Y-%m-%d %H:%M} {why}"


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

    Raises Refused (the record and the files do not fit), NotACheckpoint and UnsafePath (the
    folder), ModelExists.
    """
    from patches.digests import checkpoint_digest
    from registry import shelving
    from registry.errors import RecordUnfit

    try:
        # Before the digest, which may take minutes.
        shelving.check_index(record)
        shelving.check_judge(record)
        digest = checkpoint_digest(Path(record.checkpoint))
        with database.transaction() as session:
            return shelving.register(
                session, record, digest=digest, principal=OPERATOR, now=datetime.now(UTC)
            )
    except RecordUnfit as unfit:
        raise Refused(unfit.fault) from None
