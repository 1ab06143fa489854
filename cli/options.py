"""Options that several commands share, spelt the same everywhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from client import Client
    from registry.database import Database
    from registry.settings import Settings

DEFAULT_URL = "http://127.0.0.1:8731"

Url = Annotated[str, typer.Option("--url", envvar="RAZOR_URL", help="Where the service answers.")]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Data folder: database, pictures, patches, logs. Default: RAZOR_DATA_FOLDER or ./data",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the service's answer as JSON.")]
JobId = Annotated[str, typer.Argument(help="The job's id, as `razor submit` printed it.")]


#: An option of `razor` itself, before the command: what is typed there shows in no process list.
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        exists=True,
        dir_okay=False,
        help="File with the API key. Without it: RAZOR_API_KEY.",
        show_default=False,
    ),
]
API_KEY_VARIABLE = "RAZOR_API_KEY"
_key_file: ContextVar[Path | None] = ContextVar("key_file", default=None)


def use_key_file(path: Path | None) -> None:
    """Every client from now on takes its key from this file."""
    _key_file.set(path)


def api_key() -> str | None:
    """The key to call with, from the file or the environment; None where neither has one."""
    path = _key_file.get()
    text = os.environ.get(API_KEY_VARIABLE, "") if path is None else path.read_text("utf-8")
    return text.strip() or None


def connect(url: str) -> Client:
    """A client of the service; nothing is sent yet."""
    from client import Client

    return Client(url, api_key=api_key())


@contextmanager
def opened(data: Path | None) -> Iterator[Database]:
    """The installation's database, of this release."""
    from registry.database import Database

    chosen = settings(data)
    chosen.data_folder.mkdir(parents=True, exist_ok=True)
    database = Database(chosen.database)
    try:
        database.migrate()
        yield database
    finally:
        database.close()


def settings(data: Path | None = None, **changes: object) -> Settings:
    """The installation's settings: flags first, then RAZOR_* variables, then defaults."""
    from registry.settings import Settings

    given = {"data_folder": data, **changes}
    return Settings.model_validate(
        {key: value for key, value in given.items() if value is not None}
    )
