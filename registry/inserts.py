"""Inserting a row that another transaction may be inserting at the same moment."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from registry.tables import Base


def insert_if_absent(session: Session, row: type[Base], values: Mapping[str, object]) -> bool:
    """The row is there; True = this call wrote it, False = another transaction had, and won.

    Waits for a transaction that is writing the same key: after False the winner's row is visible.
    """
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    statement = dialect.insert(row).values(**values).on_conflict_do_nothing()
    key = next(iter(row.__table__.primary_key))
    return session.execute(statement.returning(key)).first() is not None
