"""One wake-up: claim a job, run it, judge it, store what came out. Imported in the child only."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.exc import OperationalError, SQLAlchemyError

from api_schemas.jobs import JobStatus, Outcome
from api_schemas.patches import BaseModelRef
from api_schemas.reports import Report, Verdict
from patches import folder as patch_folder
from razor import gate, material, serialize
from razor.errors import Cancelled
from razor.unlearn import Run, Task, unlearn
from registry import failpoints, ids, installation, jobs, models
from registry.blobs import BlobStore
from registry.database import Database
from registry.errors import LeaseLost, StaleParent
from registry.patches import NewPatch
from registry.settings import Settings
from registry.stores import store_of
from worker import failures, release, targets, telling
from worker.heartbeat import Heartbeat
from worker.warm import Warm, WarmCache

log = logging.getLogger(__name__)

#: What a report says where earlier targets could not be measured again.
UNMEASURED = (
    "{} targets of earlier versions could not be measured again: their pictures are deleted, and "
    "the retain set has too few of its own. They were kept out of the retained pictures."
)


@dataclass
class _Child:
    """What a worker process keeps between jobs."""

    settings: Settings
    database: Database
    blobs: BlobStore
    warm: WarmCache


_child: _Child | None = None


def work(settings: Settings) -> None:
    """Claims the most urgent job and sees it through; returns at once if there is none.

    Nothing is claimed from a database of another release, see ``worker.release``.
    """
    child = _get_child(settings)
    try:
        job = _claim(child)
    except SQLAlchemyError as error:
        # The message is gone with this; the reconciler sends another one.
        log.error("the database gives no job: %s", failures.described(error))
        return
    if job is None:
        telling.nothing_to_do()
        return
    log.info("claimed %s, attempt %d", job.id, job.attempts)
    failpoints.reach(failpoints.Point.AFTER_CLAIM)
    attempt = telling.Attempt(job, datetime.now(UTC))
    heartbeat = Heartbeat(
        child.database,
        job,
        lease_seconds=settings.lease_seconds,
        interval=settings.heartbeat_seconds,
        entered=attempt.enter,
    )
    try:
        with heartbeat:
            _run(child, job, heartbeat)
    except LeaseLost:
        log.warning("lost the lease of %s; another worker has it or it was cancelled", job.id)
    except Cancelled:
        with suppress(LeaseLost):  # the reaper may have cancelled it already
            _finish(child, job, status=JobStatus.CANCELED, outcome=Outcome.CANCELED)
    except StaleParent:
        _give_back(child, job)
    except Exception as error:
        child.warm.drop()
        _fail(child, job, error)
    attempt.over(child.database)


def _claim(child: _Child) -> jobs.Job | None:
    with child.database.transaction() as session:
        release.check(session)
        return jobs.claim(
            session,
            worker=f"{socket.gethostname()}:{os.getpid()}",
            lease_seconds=child.settings.lease_seconds,
            now=datetime.now(UTC),
        )


def close() -> None:
    """Lets go of the database before the process ends."""
    global _child
    if _child is not None:
        _child.database.close()
        _child = None


def _get_child(settings: Settings) -> _Child:
    """Made on first use, after the fork: connections must not cross it."""
    global _child
    if _child is None:
        blobs = store_of(settings)
        keys = installation.load(settings.key_path)
        database = Database(settings.database, keys, settings.database_limits)
        _child = _Child(
            settings, database, blobs, WarmCache(blobs, settings.cache_folder, settings.cache_bytes)
        )
    return _child


def _run(child: _Child, job: jobs.Job, heartbeat: Heartbeat) -> None:
    heartbeat.tick("load", 0.0, {})
    with child.database.transaction() as session:
        model = models.get(session, job.request.model)
        line = models.lineage(session, model.record.id, model.latest_version)
        before = targets.past(session, line)
    warm = child.warm.get(model, line)
    heartbeat.tick("load", 0.8, {})
    request = job.request
    earlier = targets.forgotten(warm, before, child.blobs, child.database.keys)
    materials = material.assemble_all(
        warm.shelf,
        targets.asked(job, child.blobs),
        warm.family.sizing,
        request.seed,
        earlier,
    )
    task = Task(
        model=model.record.id,
        version=model.latest_version,
        method=request.method,
        thresholds=gate.merge(model.record.thresholds, request.evaluation.thresholds),
        seed=request.seed,
        dry_run=request.dry_run,
        probes=request.evaluation.probes,
        pictures=request.evaluation.pictures,
    )
    run = unlearn(warm.family, materials, task, heartbeat.tick, heartbeat.check)
    run = _warned(run, targets.unmeasured(earlier, before))
    heartbeat.tick("store", 0.0, {})
    base = BaseModelRef(
        id=model.record.id,
        family=model.record.family,
        checkpoint_digest=model.digest,
        parent=model.latest_version,
        parent_patches=[patch.sha256 for patch in line],
    )
    patch = _kept(child, run, base, job, warm, heartbeat) if run.changes else None
    status, outcome = _ending(run, job)
    _finish(child, job, status=status, outcome=outcome, report=run.report, patch=patch)


def _warned(run: Run, unmeasured: int) -> Run:
    """The run with a warning where earlier targets were left out of what was measured."""
    if not unmeasured:
        return run
    warnings = [*run.report.warnings, UNMEASURED.format(unmeasured)]
    return replace(run, report=run.report.model_copy(update={"warnings": warnings}))


def _ending(run: Run, job: jobs.Job) -> tuple[JobStatus, Outcome]:
    """What the run came to. A pass without a change means that there was nothing to change."""
    report = run.report
    if not any(target.known for target in report.preflight):
        return JobStatus.SUCCEEDED, Outcome.NOTHING_TO_FORGET
    if job.request.dry_run:
        return JobStatus.SUCCEEDED, Outcome.DRY_RUN
    if report.gate is None or report.gate.verdict is not Verdict.PASS:
        return JobStatus.REJECTED, Outcome.GATE_REFUSED
    return JobStatus.SUCCEEDED, Outcome.PATCHED if run.changes else Outcome.NOTHING_TO_FORGET


def _kept(
    child: _Child, run: Run, base: BaseModelRef, job: jobs.Job, warm: Warm, heartbeat: Heartbeat
) -> NewPatch:
    """As ``_store``, tried again while storage or database take nothing: no run is to be lost.

    Without the database the heartbeat gives up the lease in time, and with it this.
    """
    while True:
        try:
            return _store(child, run, base, job, warm)
        except (OSError, OperationalError) as error:
            reason = failures.waited_for(error)
            if reason is None:
                raise
        log.error("the storage does not take the patch of %s (%s); trying again", job.id, reason)
        heartbeat.pause(child.settings.storage_pause_seconds)


def _store(child: _Child, run: Run, base: BaseModelRef, job: jobs.Job, warm: Warm) -> NewPatch:
    """Writes the patch and moves its file to its own hash, which is noted in the database first.

    A crash leaves a temporary folder, or a file that the note leads the janitor to.
    """
    work_folder = child.settings.work_folder
    work_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work_folder) as temporary:
        out = Path(temporary) / "patch"
        manifest = serialize.write(
            out, base, run.changes, job.request.method, run.report, str(warm.family.device)
        )
        with child.database.transaction() as session:
            now = datetime.now(UTC)
            jobs.draft(session, job.id, job.token, manifest.patch_sha256, now=now)
        digest = child.blobs.put_file(out / patch_folder.FILE_NAME)
    return NewPatch(
        id=ids.new_patch_id(), sha256=digest, bytes=manifest.patch_bytes, manifest=manifest
    )


def _finish(
    child: _Child,
    job: jobs.Job,
    *,
    status: JobStatus,
    outcome: Outcome,
    report: Report | None = None,
    patch: NewPatch | None = None,
) -> None:
    with child.database.transaction() as session:
        jobs.finish(
            session,
            job.id,
            job.token,
            status=status,
            outcome=outcome,
            report=report,
            patch=patch,
            now=datetime.now(UTC),
        )
        failpoints.reach(failpoints.Point.BEFORE_COMMIT)
    failpoints.reach(failpoints.Point.BEFORE_ACK)
    log.info("finished %s: %s, %s", job.id, status, outcome)


def _give_back(child: _Child, job: jobs.Job) -> None:
    """The job waits again, to be made on the line as it is: a version under it was revoked."""
    log.warning("the line changed under %s; it runs again", job.id)
    with suppress(LeaseLost), child.database.transaction() as session:
        jobs.give_back(session, job.id, job.token, now=datetime.now(UTC))


def _fail(child: _Child, job: jobs.Job, error: Exception) -> None:
    """Fails the job, or lets its lease run out so that the reaper gives it another attempt."""
    log.error("job %s stopped: %s", job.id, failures.described(error))
    final = failures.final_error(error)
    if final is None and job.attempts < child.settings.max_attempts:
        return
    try:
        with child.database.transaction() as session:
            jobs.finish(
                session,
                job.id,
                job.token,
                status=JobStatus.FAILED,
                outcome=Outcome.ERROR,
                error=final or failures.UNEXPECTED,
                now=datetime.now(UTC),
            )
    except LeaseLost:
        log.warning("lost the lease of %s before its failure was written", job.id)
    except SQLAlchemyError:
        log.error("the failure of %s did not reach the database; the reaper will see it", job.id)
