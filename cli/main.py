"""``razor``: the commands put together, and the one place where errors become exit codes."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from cli import (
    bench,
    decisions,
    demo,
    events,
    evidence,
    jobs,
    keys,
    patch_folders,
    prepare,
    reference,
    shelf,
    submit,
    tenants,
    up,
    webhooks,
)
from cli.console import note
from cli.examples import START, epilog, lines
from cli.failures import explain
from cli.options import KeyFile, use_key_file

commands = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a traceback with local variables could show a name
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=lines(START),
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(version("razor-unlearning"))
        except PackageNotFoundError:
            typer.echo("not installed, run from its source")
        raise typer.Exit


@commands.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print and exit.")
    ] = False,
    key_file: KeyFile = None,
) -> None:
    """Make a deployed vision model forget one person, object or style, and prove it."""
    use_key_file(key_file)


RUN = "Run a service"
ASK = "Ask a service"
PATCH = "Work with patches, no service needed"
SHELF = "Models"
ACCESS = "Who may call"

for panel, name, function in (
    (RUN, "demo", demo.demo),
    (RUN, "up", up.up),
    (RUN, "worker", up.worker),
    (RUN, "prepare", prepare.prepare),
    (ASK, "submit", submit.submit),
    (ASK, "status", jobs.status),
    (ASK, "wait", jobs.wait),
    (ASK, "events", events.events),
    (ASK, "cancel", jobs.cancel),
    (ASK, "retry", jobs.retry),
    (ASK, "approve", decisions.approve),
    (ASK, "decline", decisions.decline),
    (ASK, "extend", decisions.extend),
    (ASK, "download", jobs.download),
    (ASK, "evidence", evidence.evidence),
    (ASK, "report", jobs.report),
    (PATCH, "apply", patch_folders.apply),
    (PATCH, "verify", patch_folders.verify),
    (PATCH, "revert", patch_folders.revert),
    (PATCH, "export", patch_folders.export),
):
    commands.command(name, rich_help_panel=panel, epilog=epilog(name))(function)
commands.add_typer(webhooks.commands, name="webhooks", rich_help_panel=ASK)
commands.add_typer(shelf.commands, name="models", rich_help_panel=SHELF)
commands.add_typer(reference.commands, name="reference", rich_help_panel=SHELF)
commands.add_typer(keys.commands, name="keys", rich_help_panel=ACCESS)
commands.add_typer(tenants.commands, name="tenants", rich_help_panel=ACCESS)
commands.add_typer(bench.commands, name="bench", rich_help_panel=SHELF)


def app() -> None:
    """The entry point: run a command; an expected error is one line on stderr and an exit code."""
    try:
        commands()
    except BrokenPipeError:
        # Whoever read our output has gone, `razor status | head` for one: not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        failure = explain(error)
        if failure is None:
            raise
        note(f"razor: {failure.message}")
        sys.exit(failure.code)


if __name__ == "__main__":
    app()
