"""``razor tenants``: who shares the service, and how much of it each may use."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import say, table
from cli.examples import epilog
from cli.failures import Usage
from cli.keys import OPERATOR
from cli.options import Data, opened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from api_schemas.tenants import TenantSettings

commands = typer.Typer(no_args_is_help=True, help="Who shares the service.")

TenantId = Annotated[str, typer.Argument(help="Lower-case letters, digits, dots and hyphens.")]
Values = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="approval_required=true, retention_days=30, max_queued_jobs=5, max_jobs_per_day=50, "
        "requests_per_minute=120; null takes a limit away. Repeatable.",
    ),
]


@commands.command("add", epilog=epilog("tenants add"))
def add(tenant: TenantId, set_: Values = None, data: Data = None) -> None:
    """Add a tenant; it sees the models, and of jobs and patches only its own."""
    from pydantic import TypeAdapter

    from api_schemas.tenants import TenantId, TenantSettings
    from registry import tenants

    TypeAdapter(TenantId).validate_python(tenant)
    settings = _changed(TenantSettings(), set_ or [])
    with opened(data) as database, database.transaction() as session:
        tenants.add(session, tenant, settings, actor=OPERATOR, now=datetime.now(UTC))
    say(tenant)


@commands.command("set", epilog=epilog("tenants set"))
def set_(
    tenant: Annotated[str, typer.Argument(help="The tenant's id.")],
    values: Values = None,
    data: Data = None,
) -> None:
    """Change what is settled for a tenant; what is not named stays."""
    from registry import tenants

    with opened(data) as database, database.transaction() as session:
        settings = _changed(tenants.get(session, tenant).settings, values or [])
        tenants.change(session, tenant, settings, actor=OPERATOR, now=datetime.now(UTC))
    say(settings.model_dump_json())


@commands.command("list", epilog=epilog("tenants list"))
def list_tenants(data: Data = None) -> None:
    """Show every tenant and what is settled for it."""
    from api_schemas.tenants import TenantSettings
    from registry import tenants

    with opened(data) as database, database.transaction() as session:
        found = tenants.all_tenants(session)
    rows = [
        (one.id, *(json.dumps(value) for value in one.settings.model_dump().values()))
        for one in found
    ]
    table(("tenant", *TenantSettings.model_fields), rows)


def _changed(settings: TenantSettings, pairs: Sequence[str]) -> TenantSettings:
    """The settings with these ``key=value`` pairs in place. Raises Usage, ValidationError."""
    values = settings.model_dump()
    for pair in pairs:
        key, equals, text = pair.partition("=")
        try:
            values[key] = json.loads(text)
        except ValueError:
            equals = ""
        if not equals:
            raise Usage(f"--set takes KEY=VALUE, as in --set max_queued_jobs=5, and not {pair!r}")
    return type(settings).model_validate(values)
