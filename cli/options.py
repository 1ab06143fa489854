"""Options that several commands share, spelt the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from client import Client
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


def connect(url: str) -> Client:
    """A client of the service; nothing is sent yet."""
    from client import Client

    return Client(url)


def settings(data: Path | None = None, **changes: object) -> Settings:
    """The installation's settings: flags first, then RAZOR_* variables, then defaults."""
    from registry.settings import Settings

    given = {"data_folder": data, **changes}
    return Settings.model_validate(
        {key: value for key, value in given.items() if value is not None}
    )
