"""The options of ``razor submit``, one a line in the command itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[str, typer.Option(help="Id of a model on the shelf: razor models list")]
Pictures = Annotated[
    list[Path] | None,
    typer.Argument(help="More pictures: what a shell makes of --samples photos/*.jpg"),
]
Name = Annotated[
    str | None,
    typer.Option(help="What is to be forgotten; '-' reads it from stdin.", show_default=False),
]
NameFile = Annotated[
    Path | None,
    typer.Option(help="File whose text is the name: shells keep what you type.", exists=True),
]
Samples = Annotated[
    list[Path] | None, typer.Option(help="Pictures of it, 3 to 50: a folder, or files.")
]
ProbeSamples = Annotated[
    list[Path] | None, typer.Option(help="Further pictures, used for measuring only.")
]
Alias = Annotated[
    list[str] | None, typer.Option(help="Another name that the model may know; repeatable.")
]
Describe = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TEXT",
        help="Words that describe it without naming it, to measure with; repeatable.",
    ),
]
Kind = Annotated[
    str | None, typer.Option(help="identity (the default), object or style.", show_default=False)
]
TargetsFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Several targets in one patch: TOML with a \\[\\[target]] table for each, which has "
        "name, samples (folders or files, relative to FILE) and, if need be, kind, aliases, "
        "descriptions, probe_samples. Instead of --name and --samples.",
    ),
]
Method = Annotated[str, typer.Option(help="Unlearning method.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A parameter of the method; repeatable."),
]
Probe = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ATTACK",
        help="An attack to try the result with: quantize, prompts, linear, relearn, learnt_word, "
        "or none; repeatable. Without it: all but relearn and learnt_word.",
    ),
]
Seed = Annotated[int, typer.Option(help="Equal seeds give equal patches.")]
Due = Annotated[
    str | None, typer.Option(help="Deadline, 2026-12-24 or 2026-12-24T18:00+01:00 (else UTC).")
]
Priority = Annotated[int, typer.Option(help="-10 to 10; larger goes first.")]
Regulation = Annotated[str, typer.Option(help="gdpr, ccpa or none: sets a deadline.")]
Reference = Annotated[
    str | None, typer.Option(help="The id under which your own system knows the request.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Look and score only; nothing is edited.")]
IdempotencyKey = Annotated[
    str | None, typer.Option(help="Sent twice with one key, a request is one job.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Follow the job to its end.")]
