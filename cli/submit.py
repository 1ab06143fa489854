"""``razor submit``: ask a service to make a model forget."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import note, say
from cli.failures import Usage, invalid
from cli.options import DEFAULT_URL, Url, connect

if TYPE_CHECKING:
    from api_schemas.requests import UnlearnRequest

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
STDIN = "-"
_MAX_NAME_BYTES = 4096


def submit(
    model: Annotated[str, typer.Option(help="Id of a model on the shelf: razor models list")],
    pictures: Annotated[
        list[Path] | None,
        typer.Argument(help="More pictures: what a shell makes of --samples photos/*.jpg"),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="What is to be forgotten; '-' reads it from stdin.", show_default=False),
    ] = None,
    name_file: Annotated[
        Path | None,
        typer.Option(help="File whose text is the name: shells keep what you type.", exists=True),
    ] = None,
    samples: Annotated[
        list[Path] | None, typer.Option(help="Pictures of it, 3 to 50: a folder, or files.")
    ] = None,
    probe: Annotated[
        list[Path] | None, typer.Option(help="Further pictures, used for measuring only.")
    ] = None,
    alias: Annotated[
        list[str] | None, typer.Option(help="Another name that the model may know; repeatable.")
    ] = None,
    kind: Annotated[str, typer.Option(help="identity, object or style.")] = "identity",
    method: Annotated[str, typer.Option(help="Unlearning method.")] = "razor",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A parameter of the method; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal patches.")] = 0,
    due: Annotated[
        str | None, typer.Option(help="Deadline, 2026-12-24 or 2026-12-24T18:00+01:00 (else UTC).")
    ] = None,
    priority: Annotated[int, typer.Option(help="-10 to 10; larger goes first.")] = 0,
    regulation: Annotated[str, typer.Option(help="gdpr, ccpa or none: sets a deadline.")] = "none",
    reference: Annotated[
        str | None, typer.Option(help="The id under which your own system knows the request.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Look and score only; nothing is edited.")
    ] = False,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Sent twice with one key, a request is one job.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job to its end.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Ask a service to make a model forget a person, an object or a style.

    Prints the job's id. With --wait, exit code 0 only if the job succeeded.
    """
    request = build_request(
        {
            "model": model,
            "target": {"kind": kind, "name": read_name(name, name_file), "aliases": alias or []},
            "method": {"method": method, **read_parameters(set_ or [])},
            "priority": priority,
            "due_at": read_moment(due),
            "regulation": regulation,
            "subject_request_id": reference,
            "seed": seed,
            "dry_run": dry_run,
        }
    )
    shown = picture_files([*(samples or []), *(pictures or [])])
    if not shown:
        raise Usage("name at least three pictures of the target: --samples FOLDER or files")
    with connect(url) as client:
        job = client.submit(
            request, shown, picture_files(probe or []), idempotency_key=idempotency_key
        )
        say(job.id)
        if wait:
            from cli.follow import conclude, follow

            conclude(follow(client, job.id))
        else:
            note(f"follow it with: razor wait {job.id}")


def build_request(fields: dict[str, object]) -> UnlearnRequest:
    """The checked request. Raises Usage, which names the fields and never their values."""
    from pydantic import ValidationError

    from api_schemas.requests import UnlearnRequest

    try:
        return UnlearnRequest.model_validate(fields)
    except ValidationError as error:
        raise Usage(invalid(error)) from None


def read_name(name: str | None, file: Path | None) -> str:
    """The name from the option, the file, stdin, or a question. Raises Usage."""
    if (name is None) == (file is None):
        if name is None and sys.stdin.isatty():
            asked: str = typer.prompt("Name of what is to be forgotten", err=True)
            return asked
        raise Usage("give the name once: --name NAME, --name - (stdin) or --name-file FILE")
    if file is not None:
        return file.read_bytes()[:_MAX_NAME_BYTES].decode("utf-8", errors="replace").strip()
    if name == STDIN:
        return sys.stdin.read(_MAX_NAME_BYTES).strip()
    assert name is not None
    return name


def read_parameters(pairs: Sequence[str]) -> dict[str, object]:
    """``key=value`` pairs; a value that is JSON (0.3, true) is that, any other is text."""
    found: dict[str, object] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals or key == "method":
            raise Usage(f"--set takes KEY=VALUE, as in --set tau=0.3, and not {pair!r}")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def read_moment(text: str | None) -> datetime | None:
    """An ISO 8601 date or time; UTC where it names no offset. Raises Usage."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Usage("--due takes 2026-12-24 or 2026-12-24T18:00+01:00") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def picture_files(paths: Sequence[Path]) -> list[Path]:
    """The files named, and of each folder its pictures in order of name. Raises Usage."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)
            if not inside:
                raise Usage(f"{path} holds no pictures (jpg, png, webp)")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise Usage(f"there is no file or folder {path}")
    return found
