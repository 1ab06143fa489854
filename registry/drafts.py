"""Patch files on their way to a row: noted before they are stored, so that none is left unknown.

A worker stores a patch's file and then commits the patch's row. Should it die in between, and its
job end some other way, no row would name the file; and whoever deleted what no row names would
delete every patch, once a front is pointed at an empty database. So the digest is noted here, and
committed, before the file is stored, and only files that were noted are ever deleted.

A file is named by its content: two jobs may make the same one, and the second finds it stored.
So who notes a digest and who drops it take turns, each until its commit. A file whose digest was
noted first stays; whoever notes it later finds it gone and stores it again.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import Exists, delete, exists, func, or_, select, text, update
from sqlalchemy.orm import Session

from api_schemas.jobs import FINAL
from registry.inserts import insert_if_absent
from registry.tables import DraftRow, JobRow, PatchRow

#: Any number that nothing else in the database locks pairs with; these are the letters "DRFT".
_LOCK: Final = 0x44524654


def note(session: Session, sha256: str, job_id: str, *, now: datetime) -> None:
    """The job is about to store this file; noted again, it is as young as if it were new.

    The caller commits before it stores. Waits for who is dropping the same file.
    """
    _take_turn(session, sha256)
    if not insert_if_absent(
        session, DraftRow, {"sha256": sha256, "job_id": job_id, "noted_at": now}
    ):
        session.execute(
            update(DraftRow)
            .where(DraftRow.sha256 == sha256, DraftRow.job_id == job_id)
            .values(noted_at=now)
            .execution_options(synchronize_session=False)
        )


def settle(session: Session, sha256: str, job_id: str) -> None:
    """The job's patch names the file from this transaction on; idempotent.

    Other files of the job, of attempts that made other bytes, stay noted.
    """
    session.execute(delete(DraftRow).where(DraftRow.sha256 == sha256, DraftRow.job_id == job_id))


def abandoned(session: Session, *, before: datetime, limit: int) -> list[str]:
    """Files that jobs noted before this moment and then ended without, at most ``limit``.

    Those that were noted first come first.
    """
    query = (
        select(DraftRow.sha256)
        .where(DraftRow.noted_at < before, _has_ended())
        .group_by(DraftRow.sha256)
        .order_by(func.min(DraftRow.noted_at), DraftRow.sha256)
        .limit(limit)
    )
    return list(session.scalars(query))


def drop(session: Session, sha256: str, *, before: datetime) -> bool:
    """The file's abandoned notes are gone; True = nothing names it any more, so delete it now.

    Now is before the commit: until then nobody who makes the same file can store it, and a crash
    leaves the notes, so that all of it is done again.
    """
    _take_turn(session, sha256)
    dropped = session.execute(
        delete(DraftRow)
        .where(DraftRow.sha256 == sha256, DraftRow.noted_at < before, _has_ended())
        .returning(DraftRow.job_id)
        .execution_options(synchronize_session=False)
    ).all()
    # In one statement: a job that ends meanwhile turns its note into a patch in one moment.
    named = select(
        or_(
            exists().where(DraftRow.sha256 == sha256),
            exists().where(PatchRow.sha256 == sha256),
        )
    )
    return bool(dropped) and not session.scalar(named)


def _has_ended() -> Exists:
    return exists().where(JobRow.id == DraftRow.job_id, JobRow.status.in_(FINAL))


def _take_turn(session: Session, sha256: str) -> None:
    """No other transaction is at this file's notes until this one ends."""
    # SQLite's transactions follow one another anyway.
    if session.get_bind().dialect.name == "postgresql":
        # The lock's second number has 32 bits: files that share them wait for each other in vain.
        number = int.from_bytes(bytes.fromhex(sha256[:8]), signed=True)
        keys = {"space": _LOCK, "number": number}
        session.execute(text("SELECT pg_advisory_xact_lock(:space, :number)"), keys)
