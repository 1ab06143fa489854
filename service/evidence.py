"""``/jobs/{id}/evidence``: everything an auditor needs, as one tar that never changes.

Made at the first download (docs/decisions/0009-evidence.md): only the front holds the signing
key. What was made is kept as a blob, all but the patch file, which is one already.
"""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from api_schemas.audit import InclusionProof, LoggedLine
from api_schemas.jobs import JobStatus
from patches.segments import FileRange
from registry import audit, jobs, patches
from registry import evidence as kept
from registry.errors import BlobMissing, JobNotFound
from registry.jobs.record import Job
from registry.patches import Patch
from service import documentation, downloads, errors, etags, signing
from service.access import Auditor
from service.parameters import IfNoneMatch, JobId, RangeHeader
from service.parts import Parts, PartsOf, now

if TYPE_CHECKING:
    from evidence.certificate import Erasure

router = APIRouter(tags=["evidence"])


@router.head(
    "/jobs/{job_id}/evidence",
    summary="The head of the evidence",
    responses=documentation.file_head()
    | documentation.problems_of(
        JobNotFound, errors.EvidenceAbsent, BlobMissing, errors.SigningKeyUnusable
    ),
    response_class=Response,
)
@router.get(
    "/jobs/{job_id}/evidence",
    summary="Patch, certificate, log line and signatures",
    responses=documentation.file(downloads.TAR)
    | documentation.problems_of(
        JobNotFound,
        errors.EvidenceAbsent,
        errors.RangeNotSatisfiable,
        BlobMissing,
        errors.SigningKeyUnusable,
    ),
    response_class=Response,
)
def read_evidence(
    request: Request,
    parts: PartsOf,
    caller: Auditor,
    job_id: JobId,
    if_none_match: IfNoneMatch = None,
    range_header: RangeHeader = None,
) -> Response:
    """A tar that `razor verify` checks offline; the same bytes each time.

    Only of jobs that succeeded with a published patch. Evidence says that the version is in use,
    so none is made of a revoked one; what was made before stays as it is.
    """
    with parts.database.transaction() as session:
        job = jobs.get(session, job_id, caller.tenant)
        if job.status is not JobStatus.SUCCEEDED or job.patch_id is None:
            raise errors.EvidenceAbsent
        patch = patches.get(session, job.patch_id, caller.tenant)
        found = kept.find(session, job_id)
        if found is None and job.version_revoked_at is not None:
            raise errors.EvidenceAbsent
    digest = found or _make(parts, job, patch, principal=caller.principal)
    return downloads.respond(_tar(parts, job, patch, digest), request)


def _tar(parts: Parts, job: Job, patch: Patch, digest: str) -> downloads.Download:
    from evidence import archive

    small, values = (
        FileRange(functools.partial(parts.blobs.open, name), 0, parts.blobs.size(name))
        for name in (digest, patch.sha256)
    )
    tar = archive.whole(job.id, small, values)
    # The tar follows from these two alone.
    etag = hashlib.sha256(f"{digest}\n{patch.sha256}".encode()).hexdigest()
    return downloads.Download(
        etag=etags.strong(etag),
        size=tar.size,
        media_type=downloads.TAR,
        file_name=f"evidence-{job.id}.tar",
        read=tar.iter_range,
    )


def _make(parts: Parts, job: Job, patch: Patch, *, principal: str) -> str:
    """The digest of the job's evidence blob; of two that make it at once one is kept."""
    from evidence import archive, making

    key = signing.key(parts)
    with parts.database.transaction() as session:
        erasure = _erasure(session, job, patch)
        note, size = signing.checkpoint(parts, session)
        logged = _logged(session, job, size)
    with tempfile.TemporaryDirectory(prefix=".evidence-", dir=parts.settings.data_folder) as folder:
        files = making.make(
            erasure,
            functools.partial(parts.blobs.open, patch.sha256),
            logged,
            note,
            key,
            scratch=Path(folder),
            issued_at=now(),
        )
    digest = parts.blobs.put(archive.head(job.id, files))
    with parts.database.transaction() as session:
        revoked = jobs.get(session, job.id).version_revoked_at is not None
        won = not revoked and kept.keep(session, job.id, digest, now=now())
        first = kept.find(session, job.id)
        if won:
            _note(session, job, files, principal=principal)
    if not won:
        parts.blobs.delete(digest)
    if first is None:  # revoked meanwhile; otherwise evidence is never taken back
        raise errors.EvidenceAbsent
    return first


def _note(session: Session, job: Job, files: Mapping[str, bytes], *, principal: str) -> None:
    """The log holds the certificate's digest, so that there cannot be another one in secret."""
    from evidence import names

    audit.append(
        session,
        tenant=job.tenant,
        actor=principal,
        action="evidence.issued",
        object_type="job",
        object_id=job.id,
        details={"certificate_sha256": hashlib.sha256(files[names.CERTIFICATE]).hexdigest()},
        now=now(),
    )


def _erasure(session: Session, job: Job, patch: Patch) -> Erasure:
    from evidence.certificate import Erasure

    report = jobs.report(session, job.id)
    assert job.finished_at is not None, "a succeeded job has ended"
    assert patch.version is not None, "its patch is a version"
    if report is None:
        raise errors.EvidenceAbsent
    request = job.request
    return Erasure(
        job_id=job.id,
        regulation=request.regulation.value,
        received_at=job.created_at,
        completed_at=job.finished_at,
        due_at=job.due_at,
        targets=len(report.preflight),
        probes=request.evaluation.probes,
        patch_id=patch.id,
        version=patch.version,
        manifest=patch.manifest,
        report=report,
        subject=",".join(each.subject for each in job.subjects) or None,
    )


def _logged(session: Session, job: Job, size: int) -> LoggedLine:
    """The line of the job's end, with the proof that it is in the log of this size."""
    entry = audit.latest(session, job.id, "job.succeeded")
    path = audit.inclusion(session, entry.index, size, tenant=job.tenant)
    hashes = [value.hex() for value in path]
    proof = InclusionProof(index=entry.index, size=size, hashes=hashes)
    return LoggedLine(line=entry.line(), inclusion=proof)
