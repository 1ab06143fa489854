"""``razor prepare``: make what the service runs on ready for this release, and look at it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import note, say
from cli.failures import Refused, Unready
from cli.options import Data, settings

if TYPE_CHECKING:
    from registry.settings import Settings


def prepare(
    role: Annotated[
        str | None,
        typer.Option(
            help="A PostgreSQL role that service and workers connect as: it gets the rights they "
            "need, and none to change the audit log or the tables.",
            show_default=False,
        ),
    ] = None,
    make_bucket: Annotated[
        bool, typer.Option("--make-bucket", help="Make the bucket of RAZOR_BLOBS_URL.")
    ] = False,
    data: Data = None,
) -> None:
    """Make database, store and queue ready for this release, before the service starts.

    Run it as the owner of the tables, at the first start and at each upgrade; again does no harm.
    It changes tables and rights, looks at the store and at Redis, and says what it found.
    """
    chosen = settings(data)
    _prepare_database(chosen, role)
    say("database: its tables are of this release")
    if role is not None:
        say(f"database: {role} may do what the service needs, and not change the audit log")
    _prepare_store(chosen, make_bucket)
    say("store: it answers")
    for fault in _faults(chosen):
        note(f"queue: {fault}")
    say("queue: it answers")


def _prepare_database(chosen: Settings, role: str | None) -> None:
    from sqlalchemy import make_url

    from registry import roles
    from registry.database import Database
    from registry.errors import RoleTooStrong

    url = make_url(chosen.database)
    if role is not None and url.get_backend_name() != "postgresql":
        raise Refused("--role is for PostgreSQL; set RAZOR_DATABASE_URL to the owner's address")
    chosen.data_folder.mkdir(parents=True, exist_ok=True)
    database = Database(chosen.database)
    database.migrate()
    database.close()
    if role is None:
        return
    try:
        roles.grant(url, role)
    except RoleTooStrong as found:
        raise Refused(f"{role} {', and it '.join(found.strengths)}: {found}") from None


def _prepare_store(chosen: Settings, make_bucket: bool) -> None:
    from registry.s3 import S3Blobs
    from registry.stores import store_of

    store = store_of(chosen)
    if make_bucket and not isinstance(store, S3Blobs):
        raise Refused("--make-bucket is for RAZOR_BLOBS_URL, which is not set")
    if make_bucket and isinstance(store, S3Blobs):
        store.make_bucket()
    store.check()


def _faults(chosen: Settings) -> list[str]:
    from service.broker import CeleryBroker

    broker = CeleryBroker(chosen)
    try:
        broker.ping()
        return broker.faults()
    except Exception as error:  # Whatever the transport raises; its text may hold the password.
        raise Unready("the queue does not answer; check RAZOR_BROKER_URL") from error
    finally:
        broker.close()
