"""A worker and its database are of one release, or the worker claims nothing.

While a service is upgraded there is a moment in which the tables are new and a worker is old, or
the other way round. A run that began before goes on; the next job is left to a worker that fits.
"""

from __future__ import annotations

import os
import signal

from sqlalchemy.orm import Session

from registry import schema


class OtherRelease(Exception):
    """The database's tables are those of another release of this software."""

    def __init__(self, found: str | None, known: str) -> None:
        self.worker_is_old = found is not None and found > known
        advice = (
            "this worker is older and stops; start one of the new release"
            if self.worker_is_old
            else "this worker is newer and waits; start the service, which migrates them"
        )
        super().__init__(
            f"the database's tables have revision {found}, this worker is for {known}: {advice}"
        )


def check(session: Session) -> None:
    """Pass if the tables are those of this release. Raises ``OtherRelease``."""
    found, known = schema.found(session), schema.newest()
    if found != known:
        raise OtherRelease(found, known)


def stop_worker() -> None:
    """Ask the worker that this child belongs to to end in order: with the task at its end."""
    os.kill(os.getppid(), signal.SIGTERM)
