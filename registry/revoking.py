"""Taking a version out of a model's line, and making anew what stood on it.

Every later patch holds values that were found and judged on weights with the revoked one in
them, so none can be kept as it is: see docs/decisions/0010-revoking.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from api_schemas.decisions import Affected, Revoked
from api_schemas.events import EventType
from api_schemas.jobs import JobStatus
from api_schemas.reasons import RevocationReason
from registry import audit, events, ids, models, outbox, personal
from registry.errors import (
    BaseNotRevocable,
    RevocationBlocked,
    VersionNotFound,
    VersionWithdrawn,
)
from registry.jobs import record
from registry.jobs.intake import insert_job
from registry.jobs.moves import QUEUED_PHASE
from registry.jobs.queue import wake_next
from registry.jobs.record import Job
from registry.jobs.retries import Stored, pictures_stored
from registry.tables import RerunRow, VersionRow

#: Who asks for the jobs that make anew what a revocation took along.
REBUILDER: Final = "system:revocation"


def revoke(
    session: Session,
    model_id: str,
    number: int,
    *,
    tenant: str | None,
    principal: str,
    reason: RevocationReason,
    stored: Stored,
    now: datetime,
) -> Revoked:
    """The version and all that stood on it are out of the line, which ends at its parent.

    The requests behind the later ones run again, in order and before anything else that waits, as
    far as their pictures are there; the answer tells of each. Idempotent. ``tenant`` None is the
    operator, who may do it for all. Raises ``ModelNotFound``; ``VersionNotFound``, also where
    another tenant's job made the version; ``BaseNotRevocable``; ``VersionWithdrawn``;
    ``RevocationBlocked``.
    """
    models.lock(session, model_id)
    row = _version(session, model_id, number, tenant)
    if row.revoked_at is None:
        later = _later(session, model_id, number)
        if tenant is not None and any(
            job.tenant != tenant and not _can_run(job, stored) for _, job in later
        ):
            raise RevocationBlocked(model_id, number)
        _withdraw(session, model_id, number, reason=reason, now=now)
        reruns = _run_again(session, [job for _, job in later if _can_run(job, stored)], now)
        wake_next(session, model_id, now)
        assert row.job_id is not None, "only the base has no job"
        owner = record.get(session, row.job_id).tenant
        note = _Note(session, actor=principal, now=now)
        _tell(note, model_id, number, owner, later, reruns, reason=reason)
    return _answer(session, model_id, number, tenant)


def _version(session: Session, model_id: str, number: int, tenant: str | None) -> VersionRow:
    """The row of a version that this tenant may revoke."""
    row = session.get(VersionRow, (model_id, number), populate_existing=True)
    if row is None:
        raise VersionNotFound(model_id, number)
    if row.job_id is None:
        raise BaseNotRevocable(model_id, number)
    if tenant is not None and record.get(session, row.job_id).tenant != tenant:
        raise VersionNotFound(model_id, number)
    if row.revoked_with is not None:
        raise VersionWithdrawn(model_id, number)
    return row


def _later(session: Session, model_id: str, number: int) -> list[tuple[int, Job]]:
    """What stands on the version: the rest of the line, with the jobs that made it.

    Their rows are locked: what they hold of people is either gone already or stays until this
    transaction has given it to the jobs that make them anew.
    """
    rows = session.execute(
        select(VersionRow.number, VersionRow.job_id)
        .where(
            VersionRow.model_id == model_id,
            VersionRow.number > number,
            VersionRow.revoked_at.is_(None),
        )
        .order_by(VersionRow.number)
    ).all()
    made = {job_id: later for later, job_id in rows if job_id is not None}
    for job_id in sorted(made):
        record.lock(session, job_id)
    return [(later, record.get(session, job_id)) for job_id, later in made.items()]


def _can_run(job: Job, stored: Stored) -> bool:
    """Whether all that it was asked for with is kept: the names, the key, the pictures."""
    kept = job.data_key is not None
    return kept and pictures_stored([*job.samples, *job.probe_samples], stored)


def _withdraw(
    session: Session, model_id: str, number: int, *, reason: RevocationReason, now: datetime
) -> None:
    live = update(VersionRow).where(
        VersionRow.model_id == model_id, VersionRow.revoked_at.is_(None)
    )
    for change in (
        live.where(VersionRow.number > number).values(revoked_at=now, revoked_with=number),
        live.where(VersionRow.number == number).values(revoked_at=now, revoked_reason=reason),
    ):
        session.execute(change.execution_options(synchronize_session=False))


def _run_again(session: Session, originals: Sequence[Job], now: datetime) -> dict[str, str]:
    """A queued job for each: the original's request, pictures, tenant and deadline."""
    found: dict[str, str] = {}
    for place, original in enumerate(originals):
        job_id = ids.new_job_id()
        insert_job(
            session,
            original.request,
            id=job_id,
            tenant=original.tenant,
            principal=REBUILDER,
            status=JobStatus.QUEUED,
            phase=QUEUED_PHASE,
            # Approved once already, if it had to be.
            approval_required=False,
            created_at=now,
            due_at=original.due_at,
            # These people were forgotten and are known again: before whoever still waits.
            queue_due=now + timedelta(microseconds=place),
            samples=list(original.samples),
            probe_samples=list(original.probe_samples),
        )
        assert original.data_key is not None, "whoever can run again has its key"
        personal.keep(
            session,
            job_id,
            original.request,
            tenant=original.tenant,
            data_key=original.data_key,
            retention_days=personal.retention_days(session, original.id),
        )
        events.append(session, job_id, EventType.ACCEPTED, now=now)
        session.execute(insert(RerunRow).values(job_id=job_id, original_id=original.id))
        found[original.id] = job_id
    outbox.enqueue(session, found.values(), now)
    return found


@dataclass(frozen=True, slots=True)
class _Note:
    """Lines of the audit log with the same actor and moment."""

    session: Session
    actor: str
    now: datetime

    def append(
        self, tenant: str, action: str, kind: str, what: str, details: Mapping[str, object]
    ) -> None:
        audit.append(
            self.session,
            tenant=tenant,
            actor=self.actor,
            action=action,
            object_type=kind,
            object_id=what,
            details=details,
            now=self.now,
        )


def _tell(
    note: _Note,
    model_id: str,
    number: int,
    owner: str,
    later: Sequence[tuple[int, Job]],
    reruns: Mapping[str, str],
    *,
    reason: RevocationReason,
) -> None:
    """Each tenant's log says what became of its versions, and of nobody else's jobs."""
    taken = [version for version, _ in later]
    what = {"version": number, "reason": reason.value, "withdrawn": taken}
    note.append(owner, "version.revoked", "model", model_id, what)
    for version, job in later:
        rerun = reruns.get(job.id)
        details = {"version": version, "revoked_with": number, "rerun": rerun}
        note.append(job.tenant, "job.withdrawn", "job", job.id, details)
        if rerun is not None:
            accepted = {
                "model": model_id,
                "rerun_of": job.id,
                "subjects": [each.subject for each in job.subjects],
            }
            note.append(job.tenant, "job.accepted", "job", rerun, accepted)


def _answer(session: Session, model_id: str, number: int, tenant: str | None) -> Revoked:
    every = {version.number: version for version in models.versions(session, model_id)}
    revoked = every[number]
    assert revoked.revoked_at is not None
    assert revoked.revoked_reason is not None
    affected = []
    for version in every.values():
        if version.revoked_with != number or version.job_id is None:
            continue
        job = record.get(session, version.job_id)
        own = tenant is None or job.tenant == tenant
        affected.append(
            Affected(
                version=version.number,
                job_id=job.id if own else None,
                state="post_again" if job.rerun is None else "queued",
                rerun=job.rerun if own else None,
            )
        )
    return Revoked(
        model=model_id,
        version=number,
        reason=revoked.revoked_reason,
        revoked_at=revoked.revoked_at,
        latest_version=models.get(session, model_id).latest_version,
        affected=affected,
    )
