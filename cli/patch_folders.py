"""``razor apply``, ``verify``, ``revert``: patches and checkpoints as folders."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli import evidence
from cli.console import say
from cli.failures import Refused, Usage


class Format(StrEnum):
    """What a patch can be written as."""

    LORA = "lora"


Patches = Annotated[
    list[Path], typer.Argument(help="Folder of a patch; several go on in the order given.")
]


def apply(
    patches: Patches,
    checkpoint: Annotated[Path, typer.Option(help="Folder of the weights the patch was made for.")],
    out: Annotated[Path, typer.Option(help="The new folder. It must not exist yet.")],
) -> None:
    """Write a copy of a checkpoint with patches on it.

    The checkpoint is left alone. Nothing at all is written unless every tensor that the patch
    edits is bit for bit what it was made for. The copy keeps what it takes to go back.
    """
    from patches.apply import apply as put_on

    written = put_on(patches, checkpoint, out)
    for (file, tensor), digest in written.tensors.items():
        say(f"{file}  {tensor}  sha256 {digest}")
    say(f"wrote {out}: {len(written.tensors)} tensors changed, each read back")


def verify(
    patch: Annotated[
        Path, typer.Argument(help="Folder of a patch, or evidence: its folder or tar.")
    ],
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            "--base",
            help="Also: is this folder the patch's base, already patched, or neither?",
        ),
    ] = None,
    whole: Annotated[
        bool,
        typer.Option(
            "--whole", help="Also: patch aside, is every file the registered checkpoint's?"
        ),
    ] = False,
    key: Annotated[
        Path | None,
        typer.Option(help="Evidence: the service's public key as you got it on another way."),
    ] = None,
) -> None:
    """Check a patch, or a job's evidence, without trusting or asking any service.

    Of evidence also what is not proven is said. Exit code 1 if any check fails.
    """
    from evidence.archive import is_evidence

    if is_evidence(patch):
        evidence.check(patch, key=key, base=checkpoint, whole=whole)
        return
    if key is not None:
        raise Usage("--key is for evidence; a patch alone is not signed")
    from patches.verify import verify as check

    checks = check(patch, checkpoint, whole=whole)
    for one in checks:
        say(f"{'ok  ' if one.passed else 'FAIL'}  {one.name}: {one.detail}")
    if not all(one.passed for one in checks):
        raise Refused(f"{patch} did not pass; do not use it here")


def revert(
    folder: Annotated[Path, typer.Argument(help="A folder that `razor apply` wrote.")],
    out: Annotated[
        Path | None, typer.Option(help="Write the result here and leave the folder alone.")
    ] = None,
) -> None:
    """Take the last patch off again: every bit of every file comes back."""
    from patches.apply import revert as take_off

    written = take_off(folder, out)
    say(f"{written.folder}: {len(written.tensors)} tensors are as they were, each read back")


def export(
    patch: Annotated[Path, typer.Argument(help="Folder of a patch on a picture generator.")],
    checkpoint: Annotated[Path, typer.Option(help="Pipeline folder the patch was made for.")],
    out: Annotated[Path, typer.Option(help="The new folder. It must not exist yet.")],
    to: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.LORA,
    rank: Annotated[int, typer.Option(min=1, max=4096, help="Rank of the adapter.")] = 16,
) -> None:
    """Write a patch as an adapter that diffusers takes: pipe.load_lora_weights("FOLDER").

    A patch sets values; an adapter adds a change of low rank to them. What the rank leaves out
    is said for each matrix, as a share of the change. `razor apply` leaves nothing out.
    """
    from razor import lora

    made = lora.export(patch, checkpoint, out, rank)
    for one in made.matrices:
        say(f"{one.tensor}  rank {one.rank}  left out {100 * one.error:.2f} %")
    say(f"wrote {made.file}: rank {rank} leaves out {100 * made.error:.2f} % of the change")
