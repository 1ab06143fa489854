"""``razor keys``: who may call the service. Written into its database, so for operators alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from api_schemas.access import Scope
from cli.console import note, say, table
from cli.examples import epilog
from cli.options import Data, opened

if TYPE_CHECKING:
    from registry.keys import Issued, Key

OPERATOR = "operator"
#: What precedes a new key's text on stdout: scripts read it.
SHOWN_ONCE = "API key (shown once): "

commands = typer.Typer(no_args_is_help=True, help="API keys: who may call the service.")

KeyId = Annotated[str, typer.Argument(help="The key's id: razor keys list")]


@commands.command("create", epilog=epilog("keys create"))
def create(
    name: Annotated[str, typer.Argument(help="What it is for, to tell keys apart by.")],
    scope: Annotated[
        list[Scope], typer.Option(help="What it may do; repeatable. admin may do everything.")
    ],
    tenant: Annotated[str, typer.Option(help="Whose it is: razor tenants list")] = "default",
    days: Annotated[
        int | None, typer.Option(min=1, help="Days that it is valid for. Default: for good.")
    ] = None,
    data: Data = None,
) -> None:
    """Make an API key and print it, once: only its digest is kept."""
    from api_schemas.tenants import DEFAULT_TENANT
    from registry import keys, tenants

    now = datetime.now(UTC)
    with opened(data) as database, database.transaction() as session:
        if tenant == DEFAULT_TENANT:
            tenants.ensure(session, tenant, actor=OPERATOR, now=now)
        issued = keys.create(
            session,
            tenant=tenant,
            name=name,
            scopes=scope,
            expires_at=None if days is None else now + timedelta(days=days),
            actor=OPERATOR,
            now=now,
        )
    show(issued)


@commands.command("list", epilog=epilog("keys list"))
def list_keys(
    tenant: Annotated[
        str | None, typer.Option(help="Of this tenant alone.", show_default=False)
    ] = None,
    data: Data = None,
) -> None:
    """Show every key: its id, what it may do, when it was used last. Never the key itself."""
    from registry import keys

    with opened(data) as database, database.transaction() as session:
        found = keys.all_keys(session, tenant)
    now = datetime.now(UTC)
    rows = [_row(key, now) for key in found]
    table(("key", "tenant", "state", "last used (UTC)", "expires (UTC)", "scopes", "name"), rows)


@commands.command("revoke", epilog=epilog("keys revoke"))
def revoke(key: KeyId, data: Data = None) -> None:
    """End a key at once. Doing it twice does no harm."""
    from registry import keys

    with opened(data) as database, database.transaction() as session:
        keys.revoke(session, key, actor=OPERATOR, now=datetime.now(UTC))
    say(f"{key} is revoked")


@commands.command("rotate", epilog=epilog("keys rotate"))
def rotate(
    key: KeyId,
    overlap_hours: Annotated[
        float, typer.Option(min=0, help="How long the old key still works.")
    ] = 24.0,
    data: Data = None,
) -> None:
    """Make a new key with the same scopes; the old one works on for a while.

    To the service both are the same caller.
    """
    from registry import keys

    overlap = timedelta(hours=overlap_hours)
    with opened(data) as database, database.transaction() as session:
        issued = keys.rotate(session, key, overlap=overlap, actor=OPERATOR, now=datetime.now(UTC))
    show(issued)
    note(f"{key} works for another {overlap_hours:g} hours at most")


def show(issued: Issued) -> None:
    """Print the key, this one time. On a line of its own, the same words for good."""
    say(f"{SHOWN_ONCE}{issued.text}")


def _row(key: Key, now: datetime) -> tuple[str, ...]:
    state = "revoked" if key.revoked_at else "expired" if key.ended(now) else "valid"
    scopes = ",".join(sorted(key.scopes)) or "-"
    return (
        *(key.id, key.tenant, state),
        *(_moment(key.last_used_at), _moment(key.expires_at)),
        *(scopes, key.name),
    )


def _moment(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M}"
