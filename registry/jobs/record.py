"""A job as the rest of the code sees it: a frozen record, never a row."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Row, Select, and_, bindparam, select
from sqlalchemy.orm import Session, aliased, object_session

from api_schemas.jobs import JobError, JobStatus, Outcome
from api_schemas.reasons import ExtensionReason
from api_schemas.reports import Report, Verdict
from api_schemas.requests import UnlearnRequest
from registry import painted, personal
from registry.errors import JobNotFound
from registry.sealing import DataKey
from registry.subjects import Subject
from registry.tables import JobRow, PatchRow, PersonalRow, RerunRow, VersionRow

#: A job, whether it has a report, its patch, its version, since when that is revoked, the job that
#: it makes anew, the job that makes it anew, and what is kept of people.
Found = Row[
    JobRow,
    bool,
    str | None,
    int | None,
    datetime | None,
    str | None,
    str | None,
    PersonalRow | None,
]


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody said of a job that needs approval; all None while nobody has."""

    approved: bool | None
    reason: str | None
    decided_at: datetime | None


@dataclass(frozen=True, slots=True)
class Job:
    """One request and where it stands. Its repr shows no name, so that a log cannot either.

    ``samples`` and ``probe_samples`` are blob digests, of pictures that ``data_key`` opens. Once
    the personal data is out of reach, ``request`` lacks its personal part and ``data_key`` is None;
    soon after, the blobs are gone too, and ``erased_at`` says when. ``subjects`` stay. ``token`` is
    the fencing token of the latest claim; it grows with every claim and never falls. The report is
    left out because it is large: ``jobs.report`` reads it.
    """

    id: str
    tenant: str
    request: UnlearnRequest
    status: JobStatus
    outcome: Outcome | None
    verdict: Verdict | None
    phase: str
    fraction: float
    eta_seconds: float | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    due_at: datetime | None
    extended_from: datetime | None
    extension_reason: ExtensionReason | None
    approval: Decision | None
    retries: int
    attempts: int
    lease_owner: str | None
    lease_expires_at: datetime | None
    token: int
    error: JobError | None
    has_report: bool
    patch_id: str | None
    model_version: int | None
    version_revoked_at: datetime | None
    rerun_of: str | None
    rerun: str | None
    samples: tuple[str, ...]
    probe_samples: tuple[str, ...]
    subjects: tuple[Subject, ...]
    data_key: DataKey | None
    erased_at: datetime | None

    def __repr__(self) -> str:
        return f"Job(id={self.id!r}, status={self.status.value!r}, token={self.token})"


@functools.cache
def rows() -> Select[
    JobRow,
    bool,
    str | None,
    int | None,
    datetime | None,
    str | None,
    str | None,
    PersonalRow | None,
]:
    """What ``from_row`` needs of each job; made once, for that takes longer than to run it."""
    anew = aliased(RerunRow)
    return (
        select(
            JobRow,
            JobRow.report.is_not(None),
            PatchRow.id,
            VersionRow.number,
            VersionRow.revoked_at,
            RerunRow.original_id,
            anew.job_id,
            PersonalRow,
        )
        .outerjoin(PatchRow, and_(PatchRow.job_id == JobRow.id, PatchRow.replaced_at.is_(None)))
        .outerjoin(VersionRow, VersionRow.job_id == JobRow.id)
        .outerjoin(RerunRow, RerunRow.job_id == JobRow.id)
        .outerjoin(anew, anew.original_id == JobRow.id)
        .outerjoin(PersonalRow, PersonalRow.job_id == JobRow.id)
        .execution_options(populate_existing=True)
    )


_ONE = rows().where(JobRow.id == bindparam("job_id"))
_OWN = _ONE.where(JobRow.tenant == bindparam("tenant"))


def get(session: Session, job_id: str, tenant: str | None = None) -> Job:
    """The job; with ``tenant``, only if it is that tenant's. Raises ``JobNotFound``."""
    query = _ONE if tenant is None else _OWN
    found = session.execute(query, {"job_id": job_id, "tenant": tenant}).first()
    if found is None:
        raise JobNotFound(job_id)
    return from_row(found)


def report(session: Session, job_id: str) -> Report | None:
    """The report, None while there is none; with pictures as long as they can be opened.

    Raises ``JobNotFound``.
    """
    found = session.execute(select(JobRow.report).where(JobRow.id == job_id)).first()
    if found is None:
        raise JobNotFound(job_id)
    (stored,) = found
    if stored is None or not stored.pictures:
        return stored
    return painted.shown(stored, get(session, job_id).data_key)


def lock(session: Session, job_id: str, tenant: str | None = None) -> JobRow:
    """The job's row, which no other transaction changes before this one ends.

    Read again from the database. Raises ``JobNotFound``.
    """
    query = select(JobRow).where(JobRow.id == job_id).with_for_update(key_share=True)
    if tenant is not None:
        query = query.where(JobRow.tenant == tenant)
    row = session.scalar(query, execution_options={"populate_existing": True})
    if row is None:
        raise JobNotFound(job_id)
    return row


def from_row(found: Found) -> Job:
    """The record of one of ``rows``, opened with the keys of the session that read it."""
    row, has_report, patch_id, model_version, revoked_at, rerun_of, rerun, kept = found
    session = object_session(row)
    assert session is not None, "a row that was just read belongs to its session"
    request, data_key = personal.opened(session, row, kept)
    subjects = None if kept is None else kept.subjects
    return Job(
        id=row.id,
        tenant=row.tenant,
        request=request,
        status=row.status,
        outcome=row.outcome,
        verdict=row.verdict,
        phase=row.phase,
        fraction=row.fraction,
        eta_seconds=row.eta_seconds,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        due_at=row.due_at,
        extended_from=row.extended_from,
        extension_reason=row.extension_reason,
        approval=_decision(row),
        retries=row.retries,
        attempts=row.attempts,
        lease_owner=row.lease_owner,
        lease_expires_at=row.lease_expires_at,
        token=row.token,
        error=row.error,
        has_report=has_report,
        patch_id=patch_id,
        model_version=model_version,
        version_revoked_at=revoked_at,
        rerun_of=rerun_of,
        rerun=rerun,
        samples=tuple(row.samples),
        probe_samples=tuple(row.probe_samples),
        subjects=() if subjects is None else subjects.items,
        data_key=data_key,
        erased_at=None if kept is None else kept.erased_at,
    )


def _decision(row: JobRow) -> Decision | None:
    if not row.approval_required:
        return None
    return Decision(row.approved, row.decision_reason, row.decided_at)
