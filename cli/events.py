"""``razor events``: what happened to a job, and what happens, until it is final."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import say
from cli.options import DEFAULT_URL, JobId, Json, Url, connect

if TYPE_CHECKING:
    from api_schemas.events import JobEvent


def events(
    job: JobId,
    after: Annotated[
        int, typer.Option("--after", min=0, help="Only events with a higher id than this.")
    ] = 0,
    json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Follow a job's events to the final one, also through restarts of the service."""
    with connect(url) as client:
        for event in client.events(job, after):
            say(event.model_dump_json() if json else _line(event))


def _line(event: JobEvent) -> str:
    data = event.data
    parts = [f"{event.id:>3}", f"{event.at:%Y-%m-%d %H:%M:%S}", event.type.value]
    if data.outcome is not None:
        parts.append(data.outcome.value)
    elif data.phase:
        parts.append(data.phase)
    parts += [part for part in (data.error_code, data.patch_id) if part]
    if data.model_version is not None:
        parts.append(f"version {data.model_version}")
    return "  ".join(parts)
