"""``razor evidence``, and what ``razor verify`` says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.console import say
from cli.failures import Refused
from cli.options import DEFAULT_URL, JobId, Url, connect


def evidence(
    job: JobId,
    out: Annotated[
        Path | None, typer.Option(help="The new folder. Default: evidence-JOB", show_default=False)
    ] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Fetch what an auditor needs of a finished job, as a folder.

    The patch with its model card and signature, the report, the signed erasure certificate, the
    line of the audit log with its proof, a signed checkpoint, the public key.
    """
    with connect(url) as client:
        folder = client.evidence(job, out or Path(f"evidence-{job}"))
    say(f"wrote {folder}; check it, here or anywhere, with: razor verify {folder}")


def check(path: Path, *, key: Path | None, base: Path | None, whole: bool) -> None:
    """Print each check and what none of them proves. Raises ``Refused`` if one failed."""
    from evidence.verify import verify

    pem = None if key is None else key.read_bytes()
    result = verify(path, key=pem, base=base, whole=whole)
    for one in result.checks:
        say(f"{'ok  ' if one.passed else 'FAIL'}  {one.name}: {one.detail}")
        say(f"      means: {one.means}")
    say("Not proven:")
    for sentence in result.not_proven:
        say(f"  - {sentence}")
    if not result.passed:
        raise Refused(f"{path} did not pass; do not rely on it")
