"""What must hold after a kill, whatever was killed: nothing lost, nothing doubled, all of it sound.

Each law names what it found wrong; none found is an empty list.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from api_schemas.jobs import JobStatus, Outcome
from evidence import lines, merkle
from registry import audit, events, jobs, models
from registry.errors import BlobMissing
from registry.tables import DeliveryRow, DraftRow, JobRow, OutboxRow, PatchRow
from service.background import LEFTOVER_SECONDS
from tests.crash.stack import Stack

#: How old files are made before the janitor looks: as if more than its patience had passed.
AGED_SECONDS: Final = LEFTOVER_SECONDS + 60


def lost(stack: Stack, model: str, job_id: str) -> list[str]:
    """The one job that was accepted has ended as it does undisturbed, with its patch."""
    found = []
    with stack.database.reading() as session:
        job = jobs.get(session, job_id)
        if (job.status, job.outcome) != (JobStatus.SUCCEEDED, Outcome.PATCHED):
            code = None if job.error is None else job.error.code
            found.append(f"the job is {job.status}, {job.outcome}, {code}")
        numbers = [one.id for one in events.after(session, job_id, 0, tenant=job.tenant, limit=999)]
        told = session.scalars(
            select(DeliveryRow.event_number).where(DeliveryRow.job_id == job_id)
        ).all()
        latest = models.get(session, model).latest_version
    if numbers != list(range(1, len(numbers) + 1)):
        found.append(f"events are numbered {numbers}")
    if set(told) != set(numbers):
        found.append(f"of events {numbers} the webhook is told {sorted(map(str, told))}")
    if latest != 1:
        found.append(f"the model stands at version {latest}")
    return found


def doubled(stack: Stack, model: str, job_id: str) -> list[str]:
    """One job, one patch, one version, one end, one message per event; the key is the job's."""
    found = []
    with stack.database.reading() as session:
        made = session.scalars(select(JobRow.id).where(JobRow.model_id == model)).all()
        patches = session.scalars(select(PatchRow.id).where(PatchRow.model_id == model)).all()
        versions = [version.number for version in models.versions(session, model)]
        tenant = jobs.get(session, job_id).tenant
        ends = [
            one.type
            for one in events.after(session, job_id, 0, tenant=tenant, limit=999)
            if one.is_final
        ]
        told = session.scalars(
            select(DeliveryRow.event_number).where(DeliveryRow.job_id == job_id)
        ).all()
    if list(made) != [job_id]:
        found.append(f"{len(made)} jobs came of one request")
    if len(patches) != 1:
        found.append(f"{len(patches)} patches")
    if versions != [0, 1]:
        found.append(f"versions {versions}")
    if len(ends) != 1:
        found.append(f"it ended {len(ends)} times: {ends}")
    if len(told) != len(set(told)):
        found.append("an event has two messages")
    if (again := stack.post(model)) != job_id:
        found.append(f"its key answers with another job, {again}")
    return found


def corrupt(stack: Stack, job_id: str) -> list[str]:
    """The patch is the undisturbed one, files are what rows say, log and messages are sound."""
    with stack.database.reading() as session:
        patch = session.scalar(select(PatchRow.sha256).where(PatchRow.job_id == job_id))
        log = list(_log_errors(stack, session))
    found = [*log, *_message_errors(stack)]
    if patch != (stack.digest or patch):
        found.append(f"the patch is {patch}, undisturbed it is {stack.digest}")
    elif patch is not None:
        try:
            with stack.blobs.open(patch) as file:
                stored = hashlib.file_digest(file, "sha256").hexdigest()
        except (OSError, BlobMissing) as error:
            stored = type(error).__name__
        if stored != patch:
            found.append(f"the patch's file holds {stored}")
    return found


def leftovers(stack: Stack, job_id: str, patience_seconds: float = 60.0) -> list[str]:
    """Once the janitor has been there, files are exactly what rows refer to; none is only noted."""

    def erased() -> bool:
        with stack.database.reading() as session:
            return jobs.get(session, job_id).erased_at is not None

    stack.until(lambda: stack.read(erased), "personal data deleted")
    with stack.database.reading() as session:
        kept = set(session.scalars(select(PatchRow.sha256)))
        notes = session.scalars(select(DraftRow.sha256)).all()
    folders = (stack.settings.blob_folder, stack.settings.work_folder)
    old = time.time() - AGED_SECONDS
    for path in _entries(*folders):
        with suppress(FileNotFoundError):
            os.utime(path, (old, old))
    deadline = time.monotonic() + patience_seconds
    while True:
        left = sorted({path.name for path in _entries(*folders) if path.is_file()} - kept)
        left += sorted(path.name for path in _entries(stack.settings.work_folder))
        if not left or time.monotonic() > deadline:
            return [f"left behind: {name}" for name in [*left, *notes]]
        time.sleep(0.02)


def quiet(stack: Stack) -> bool:
    """Whether nothing is on its way any more: no job runs or waits, no wake-up is unsent."""
    with stack.database.reading() as session:
        open_jobs = session.scalars(select(JobRow.status).distinct()).all()
        unsent = session.scalar(select(OutboxRow.id).limit(1))
    return all(status.is_final for status in open_jobs) and unsent is None


def _entries(*folders: Path) -> Iterator[Path]:
    """Files, and folders directly in them: the blobs' own two-letter folders are no leftovers."""
    for folder in folders:
        # The janitor is at work meanwhile: a folder that goes while it is looked into is none.
        for place, below, files in os.walk(folder):
            if Path(place) == folder:
                yield from (folder / name for name in below if len(name) != 2)
            yield from (Path(place) / name for name in files)


def _log_errors(stack: Stack, session: Session) -> Iterator[str]:
    """Every line hashes to its leaf, the leaves to the root, and the log of before is its start."""
    seen: list[audit.Entry] = []
    while new := audit.entries(session, seen[-1].id if seen else 0, 1000):
        seen += new
    for place, entry in enumerate(seen):
        if entry.index != place or lines.leaf(entry.line()).hex() != entry.leaf_hash:
            yield f"line {place} of the audit log is not what was hashed"
    leaves = [lines.leaf(entry.line()) for entry in seen]
    size, root = stack.log
    for length in {size, len(leaves)}:
        if audit.root(session, length) != _root(leaves[:length]):
            yield f"the audit log's tree of {length} lines is not that of its lines"
    if size and _root(leaves[:size]) != root:
        yield "the audit log does not begin with what it was"
    stack.log = (len(leaves), _root(leaves))


def _root(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, as it is written there."""
    if len(leaves) < 2:
        return leaves[0] if leaves else merkle.EMPTY
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return merkle.node_hash(_root(leaves[:half]), _root(leaves[half:]))


def _message_errors(stack: Stack) -> Iterator[str]:
    """One id, one content, however often it came; one event, one id."""
    bodies: dict[str, set[bytes]] = defaultdict(set)
    ids: dict[tuple[str, int], set[str]] = defaultdict(set)
    for got in list(stack.receiver.got):
        bodies[got.id].add(got.body)
        data = json.loads(got.body)["data"]
        ids[data["job_id"], data["event_id"]].add(got.id)
    if any(len(each) > 1 for each in bodies.values()):
        yield "a webhook-id came with two contents"
    if any(len(each) > 1 for each in ids.values()):
        yield "an event came under two webhook-ids"
