"""The matrix: where a process stands when something is killed, what is killed, on which stack."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from registry.failpoints import Point


class Backend(StrEnum):
    """The two ways to run it."""

    EMBEDDED = "embedded"
    PRODUCTION = "production"


class Role(StrEnum):
    """Whose process stands still."""

    FRONT = "front"
    WORKER = "worker"


class Victim(StrEnum):
    """What gets SIGKILL."""

    API = "API"
    PARENT = "worker parent"
    CHILD = "worker child"
    BROKER = "broker"
    DATABASE = "database"


#: Every point with whoever comes by it. The rename is met twice: for a picture and for a patch.
STANDS: Final[tuple[tuple[Point, Role], ...]] = (
    (Point.BEFORE_RENAME, Role.FRONT),
    (Point.AFTER_ACCEPT, Role.FRONT),
    (Point.DURING_RELAY, Role.FRONT),
    (Point.AFTER_CLAIM, Role.WORKER),
    (Point.MID_EDIT, Role.WORKER),
    (Point.BEFORE_RENAME, Role.WORKER),
    (Point.BEFORE_COMMIT, Role.WORKER),
    (Point.BEFORE_ACK, Role.WORKER),
)

#: Cells that do not exist, and why.
LEFT_OUT: Final[dict[tuple[Backend, Victim], str]] = {
    (Backend.EMBEDDED, Victim.BROKER): "the broker is files in the data folder: it has no process",
    (Backend.EMBEDDED, Victim.DATABASE): "SQLite runs inside front and worker, and dies with them",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One kill."""

    backend: Backend
    point: Point
    role: Role
    victim: Victim

    def __str__(self) -> str:
        where = self.point.value.replace("_", " ")
        return f"{self.backend}: {where} ({self.role}), kill {self.victim}"


def cells(backend: Backend) -> tuple[Cell, ...]:
    """Every cell of this stack."""
    return tuple(
        Cell(backend, point, role, victim)
        for point, role in STANDS
        for victim in Victim
        if (backend, victim) not in LEFT_OUT
    )


#: What every run of the tests does: each point and each victim at least once.
COMPACT: Final[dict[Backend, tuple[Cell, ...]]] = {
    Backend.EMBEDDED: (
        Cell(Backend.EMBEDDED, Point.BEFORE_RENAME, Role.FRONT, Victim.API),
        # The child waits for a task: its successor has to get past the lock that it held.
        Cell(Backend.EMBEDDED, Point.AFTER_ACCEPT, Role.FRONT, Victim.CHILD),
        Cell(Backend.EMBEDDED, Point.DURING_RELAY, Role.FRONT, Victim.PARENT),
        Cell(Backend.EMBEDDED, Point.MID_EDIT, Role.WORKER, Victim.CHILD),
        Cell(Backend.EMBEDDED, Point.BEFORE_COMMIT, Role.WORKER, Victim.PARENT),
    ),
    Backend.PRODUCTION: (
        Cell(Backend.PRODUCTION, Point.AFTER_ACCEPT, Role.FRONT, Victim.API),
        Cell(Backend.PRODUCTION, Point.AFTER_CLAIM, Role.WORKER, Victim.BROKER),
        Cell(Backend.PRODUCTION, Point.BEFORE_RENAME, Role.WORKER, Victim.CHILD),
        Cell(Backend.PRODUCTION, Point.BEFORE_COMMIT, Role.WORKER, Victim.DATABASE),
        Cell(Backend.PRODUCTION, Point.BEFORE_ACK, Role.WORKER, Victim.PARENT),
    ),
}
