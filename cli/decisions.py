"""``razor approve``, ``decline``, ``extend``: what people decide about a job."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from api_schemas.reasons import ApprovalReason, DeclineReason, ExtensionReason
from cli.console import say
from cli.options import DEFAULT_URL, JobId, Url, connect


def approve(
    job: JobId,
    reason: Annotated[ApprovalReason | None, typer.Option(help="Why it may run.")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Let a job run that awaits approval; never one of your own."""
    from cli.follow import describe

    with connect(url) as client:
        say(describe(client.approve(job, reason)))


def decline(
    job: JobId,
    reason: Annotated[DeclineReason | None, typer.Option(help="Why it may not run.")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Keep a job from running that awaits approval; it ends as canceled."""
    from cli.follow import describe

    with connect(url) as client:
        say(describe(client.decline(job, reason)))


def extend(
    job: JobId,
    reason: Annotated[ExtensionReason, typer.Option(help="Why it takes longer.")],
    until: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"],
            help="The new deadline, UTC; the latest that the law allows when left out.",
            show_default=False,
        ),
    ] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Put a job's legal deadline off, once. Telling whoever asked is yours to do, before it ends.

    GDPR 12(3) allows two further calendar months, the CCPA 45 days.
    """
    moment = None if until is None else until.replace(tzinfo=UTC)
    with connect(url) as client:
        view = client.extend(job, reason, moment)
    assert view.due_at is not None
    assert view.extended_from is not None
    say(f"{view.id}  due {view.due_at:%Y-%m-%d} instead of {view.extended_from:%Y-%m-%d}")
