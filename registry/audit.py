"""The audit log: who did what to which object, in order, never changed afterwards.

The lines are the leaves of an RFC 6962 tree (``docs/evidence.md``), whose complete subtrees are
kept as they come about: a line costs one row, and on average one more. The database refuses
updates and deletes.

``details`` hold counts, states and ids. No name, prompt or picture is ever written here: the log
outlives the data that it speaks of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, func, insert, select, text
from sqlalchemy.orm import Session

from api_schemas.audit import AuditLine
from evidence import lines, merkle
from registry.errors import LineNotFound, TreeSizeInvalid
from registry.tables import AuditNodeRow, AuditRow

#: Any number that nothing else in the database locks; these are the letters "AUDT".
_LOCK = 0x41554454


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log. ``id`` grows in the order in which the lines became visible.

    ``index`` is its leaf's, from 0 without gaps; ``tenant`` is None for the operator's own lines.
    """

    id: int
    index: int
    at: datetime
    tenant: str | None
    actor: str
    action: str
    object_type: str
    object_id: str
    details: dict[str, object]
    leaf_hash: str

    def line(self) -> AuditLine:
        """The line as readers see it, and as its leaf hashes it."""
        made = lines.make(
            index=self.index,
            at=self.at,
            tenant=self.tenant,
            actor=self.actor,
            action=self.action,
            object_type=self.object_type,
            object_id=self.object_id,
            details=self.details,
        )
        # What was hashed then, not what would be hashed now: a changed row must show.
        return made.model_copy(update={"leaf_hash": self.leaf_hash})


def append(
    session: Session,
    *,
    tenant: str | None,
    actor: str,
    action: str,
    object_type: str,
    object_id: str,
    details: Mapping[str, object],
    now: datetime,
) -> None:
    """The line is in the log, and in its tree, if and only if the caller's transaction commits.

    ``tenant`` may read it; None = only the operator. Call it last in a transaction: until the
    commit, other transactions that append will wait.
    """
    if session.get_bind().dialect.name == "postgresql":
        # Ids are given out before commits. Without the lock a reader could see line 7, move on,
        # and never see line 6, whose transaction commits later. Nor may two take one leaf.
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    line = lines.make(
        index=size(session),
        at=now,
        tenant=tenant,
        actor=actor,
        action=action,
        object_type=object_type,
        object_id=object_id,
        details=details,
    )
    session.execute(
        insert(AuditRow).values(
            at=now,
            tenant=tenant,
            actor=actor,
            action=action,
            object_type=object_type,
            object_id=object_id,
            details=dict(details),
            leaf_index=line.index,
            leaf_hash=line.leaf_hash,
        )
    )
    grown = merkle.completed(line.index, bytes.fromhex(line.leaf_hash), _nodes(session))
    if grown:
        session.execute(
            insert(AuditNodeRow),
            [{"level": new.level, "place": new.place, "hash": new.hash.hex()} for new in grown],
        )


def entries(
    session: Session, after: int = 0, limit: int = 100, *, object_id: str | None = None
) -> list[Entry]:
    """The lines with ids above ``after``, oldest first, at most ``limit``.

    With ``object_id``, only what happened to that object. A reader that goes on after the last
    id it saw misses nothing and sees nothing twice.
    """
    query = select(AuditRow).where(AuditRow.id > after).order_by(AuditRow.id).limit(limit)
    if object_id is not None:
        query = query.where(AuditRow.object_id == object_id)
    return _entries(session, query)


def latest(session: Session, object_id: str, action: str) -> Entry:
    """The last line that says this of the object; the caller knows that there is one."""
    query = (
        select(AuditRow)
        .where(AuditRow.object_id == object_id, AuditRow.action == action)
        .order_by(AuditRow.id.desc())
        .limit(1)
    )
    (found,) = _entries(session, query)
    return found


def page(
    session: Session, *, tenant: str, after: int | None, limit: int
) -> tuple[list[Entry], int | None]:
    """The tenant's lines with indexes above ``after``, oldest first; ``after`` of the next page.

    None where no line follows yet.
    """
    query = (
        select(AuditRow)
        .where(AuditRow.tenant == tenant, AuditRow.leaf_index > (-1 if after is None else after))
        .order_by(AuditRow.leaf_index)
        .limit(limit + 1)
    )
    found = _entries(session, query)
    return found[:limit], found[limit - 1].index if len(found) > limit else None


def size(session: Session) -> int:
    """How many lines the log has."""
    last = session.scalar(select(func.max(AuditRow.leaf_index)))
    return 0 if last is None else last + 1


def root(session: Session, tree_size: int) -> bytes:
    """The tree head over the first ``tree_size`` lines. Raises ``TreeSizeInvalid``."""
    _check_size(session, tree_size)
    return merkle.root(tree_size, _nodes(session))


def inclusion(session: Session, index: int, tree_size: int, *, tenant: str) -> list[bytes]:
    """The audit path of a line of the tenant's in the tree of that size.

    Raises ``LineNotFound``, also for another tenant's; ``TreeSizeInvalid`` for a size that the
    log has not reached, or that ends before the line.
    """
    query = select(AuditRow.id).where(AuditRow.leaf_index == index, AuditRow.tenant == tenant)
    if session.scalar(query) is None:
        raise LineNotFound(index)
    _check_size(session, tree_size)
    if index >= tree_size:
        raise TreeSizeInvalid(tree_size)
    return merkle.inclusion(index, tree_size, _nodes(session))


def consistency(session: Session, first: int, second: int) -> list[bytes]:
    """The proof that the log of ``second`` lines begins with that of ``first``.

    Raises ``TreeSizeInvalid`` for sizes in the wrong order or beyond the log.
    """
    _check_size(session, second)
    if not 0 <= first <= second:
        raise TreeSizeInvalid(first)
    return merkle.consistency(first, second, _nodes(session))


def _check_size(session: Session, tree_size: int) -> None:
    if not 0 <= tree_size <= size(session):
        raise TreeSizeInvalid(tree_size)


def _nodes(session: Session) -> merkle.Node:
    def node(level: int, place: int) -> bytes:
        if level:
            query = select(AuditNodeRow.hash).where(
                AuditNodeRow.level == level, AuditNodeRow.place == place
            )
        else:
            query = select(AuditRow.leaf_hash).where(AuditRow.leaf_index == place)
        return bytes.fromhex(session.scalars(query).one())

    return node


def _entries(session: Session, query: Select[AuditRow]) -> list[Entry]:
    return [
        Entry(
            id=row.id,
            index=row.leaf_index,
            at=row.at,
            tenant=row.tenant,
            actor=row.actor,
            action=row.action,
            object_type=row.object_type,
            object_id=row.object_id,
            details=row.details,
            leaf_hash=row.leaf_hash,
        )
        for row in session.scalars(query)
    ]
