"""``razor up`` and ``razor worker``: run the service on this machine."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli.console import note, say
from cli.keys import OPERATOR, show
from cli.options import Data, settings

if TYPE_CHECKING:
    from registry.keys import Issued
    from registry.settings import Settings

_NAP_SECONDS: Final = 0.05


def up(
    data: Data = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. Default: RAZOR_HOST or 127.0.0.1")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on. Default: RAZOR_PORT or 8731")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Workers: one for each device.")] = 1,
) -> None:
    """Run the whole service on this machine: HTTP front, worker, database and queue in one folder.

    Needs no other server. The reference model is registered and ready to be edited. Logs are in
    DATA/logs. Ctrl-C stops everything; requests that were accepted are kept.

    The first start prints an API key that may do everything, once: razor keys makes others.
    """
    from cli.stack import Stack

    chosen = settings(data, host=host, port=port)
    prepare_database(chosen)
    if (first := first_key(chosen)) is not None:
        show(first)
    with stop_signals() as stopping, Stack(chosen, workers=workers, say=note) as stack:
        register_shipped(chosen)
        stack.wait_ready(stopping)
        if not stopping.is_set():
            say(f"{stack.url}  (API: {stack.url}/openapi.json, data: {chosen.data_folder})")
            note("Ctrl-C stops it")
        stack.watch(stopping)
    note("stopped")


def worker(data: Data = None) -> None:
    """Run one worker in the foreground, for one device; as many as you like, on any machine.

    It takes jobs from the database and the queue that RAZOR_DATABASE_URL and RAZOR_BROKER_URL
    name, or that lie in the data folder.
    """
    from cli.stack import environment_for

    environment = environment_for(settings(data))
    # In our place, so that signals from a supervisor reach the worker itself.
    os.execve(sys.executable, [sys.executable, "-P", "-m", "worker"], environment)


def prepare_database(chosen: Settings) -> None:
    """The data folder is there and its database is of this release."""
    from registry.database import Database

    Path(chosen.data_folder).mkdir(parents=True, exist_ok=True)
    database = Database(chosen.database)
    database.migrate()
    database.close()


def first_key(chosen: Settings) -> Issued | None:
    """A key with every scope for a database that never had a key; else None."""
    from registry import keys
    from registry.database import Database

    database = Database(chosen.database)
    with database.transaction() as session:
        issued = keys.first(session, actor=OPERATOR, now=datetime.now(UTC))
    database.close()
    return issued


def register_shipped(chosen: Settings) -> None:
    """The reference models are on the shelf; what they must keep is drawn the first time."""
    from cli.shelf import register
    from cli.shipped import records
    from registry.database import Database

    database = Database(chosen.database)
    for record in records(chosen.data_folder):
        register(database, record)
    database.close()


class SignalEvent(threading.Event):
    """An event that a signal handler may set.

    Python runs handlers in the main thread, between two steps of whatever it does. If that is an
    Event's wait, which then holds the event's lock, setting it there would wait for itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self._asked = False

    def set(self) -> None:
        """Takes no lock."""
        self._asked = True

    def is_set(self) -> bool:
        """Whether it was set."""
        return self._asked

    def wait(self, timeout: float | None = None) -> bool:
        """Sleeps until it is set, at most ``timeout`` seconds; holds no lock meanwhile."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while not self._asked and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, _NAP_SECONDS))
        return self._asked


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, so that stopping is orderly."""
    stopping = SignalEvent()

    def stop(_: int, __: FrameType | None) -> None:
        stopping.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
