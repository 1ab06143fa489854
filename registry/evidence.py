"""Which blob holds a job's evidence: made once, the same file ever after."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.inserts import insert_if_absent
from registry.tables import EvidenceRow


def find(session: Session, job_id: str) -> str | None:
    """The digest of the job's evidence blob; None while there is none."""
    return session.scalar(select(EvidenceRow.sha256).where(EvidenceRow.job_id == job_id))


def keep(session: Session, job_id: str, sha256: str, *, now: datetime) -> bool:
    """The job has evidence; True = this one, False = another transaction's, which stays."""
    values = {"job_id": job_id, "sha256": sha256, "created_at": now}
    return insert_if_absent(session, EvidenceRow, values)
