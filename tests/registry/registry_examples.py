"""What the registry's tests keep in it: a request, a model's record, a patch, a report."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, text
from sqlalchemy.orm import Session

from api_schemas.families import Family
from api_schemas.jobs import JobStatus, Outcome
from api_schemas.methods import Razor
from api_schemas.patches import BaseModelRef, PatchManifest, Provenance
from api_schemas.reports import (
    Cost,
    DataRoles,
    Gate,
    Measurement,
    PictureGrid,
    Preflight,
    Report,
    Verdict,
)
from api_schemas.requests import UnlearnRequest
from api_schemas.shelf import ModelRecord, RetainSet
from registry import idempotency, ids, jobs, models
from registry.database import Database
from registry.installation import Keys
from registry.patches import NewPatch
from registry.tables import Base

NAME = "Mara Venn"
#: Those of the tests' installation.
KEYS = Keys(bytes(range(32)))
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64
#: What a generator may have painted; any bytes do, in base64.
PICTURE = base64.b64encode(bytes(range(256))).decode()
TENANT = "tenant-a"
PRINCIPAL = "key:officer"
#: The tables that only grow.
PROTECTED = ("audit", "audit_nodes")
ROLES = DataRoles(
    target_fit=3,
    target_select=1,
    target_test=1,
    retain_fit=4,
    retain_select=2,
    retain_test=2,
    target_digest="0" * 64,
    retain_digest="1" * 64,
)
GATE = Gate(verdict=Verdict.PASS, weak_evidence=False, checks=[])


def clear(session: Session) -> None:
    """Empty every table; the audit log's own protection is off for as long as that takes."""
    if session.get_bind().dialect.name == "postgresql":
        off = [f"ALTER TABLE {table} DISABLE TRIGGER USER" for table in PROTECTED]
        on = [f"ALTER TABLE {t} ENABLE ALWAYS TRIGGER {t}_append_only" for t in PROTECTED]
    else:
        query = text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        triggers = session.execute(query).all()
        off = [f"DROP TRIGGER {name}" for name, _ in triggers]
        on = [sql for _, sql in triggers]
    for statement in off:
        session.connection().exec_driver_sql(statement)
    for table in reversed(Base.metadata.sorted_tables):
        session.execute(delete(table))
    for statement in on:
        session.connection().exec_driver_sql(statement)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def record(model: str = "clip-a") -> ModelRecord:
    return ModelRecord(
        id=model,
        family=Family.CLIP,
        checkpoint=f"/models/{model}",
        retain=RetainSet(folder=f"/models/{model}/retain"),
    )


def request(model: str = "clip-a", **changes: object) -> UnlearnRequest:
    return UnlearnRequest.model_validate({"model": model, "target": {"name": NAME}} | changes)


def manifest(model: str = "clip-a", parent: int = 0) -> PatchManifest:
    return PatchManifest(
        format_version=1,
        model=BaseModelRef(
            id=model,
            family=Family.CLIP,
            checkpoint_digest=DIGEST,
            parent=parent,
            parent_patches=["b" * 64] * parent,
        ),
        tensors=[],
        patch_sha256="b" * 64,
        patch_bytes=10,
        units=[],
        provenance=Provenance(
            method=Razor().model_dump(mode="json"),
            seed=0,
            libraries={},
            device="cpu",
            dtype="float32",
            threads=1,
        ),
        roles=ROLES,
        metrics=[],
        gate=GATE,
    )


def new_patch(model: str = "clip-a", parent: int = 0) -> NewPatch:
    patch_id = ids.new_patch_id()
    digest = hashlib.sha256(patch_id.encode()).hexdigest()
    return NewPatch(id=patch_id, sha256=digest, bytes=10, manifest=manifest(model, parent))


def report(verdict: Verdict | None = Verdict.PASS) -> Report:
    figure = Measurement(value=50.0, n=4, interval=(1e-9, 100.0))
    return Report(
        model="clip-a",
        model_version=0,
        method="razor",
        seed=0,
        roles=ROLES,
        preflight=[
            Preflight(
                target=0,
                known=True,
                accuracy=figure,
                chance=0.1,
                sample_similarity=0.9,
                kin_similarity=0.8,
                stranger_similarity=0.2,
            )
        ],
        metrics=[],
        robustness=[],
        earlier=[],
        gate=None if verdict is None else Gate(verdict=verdict, weak_evidence=False, checks=[]),
        scores=[],
        edited=[],
        weights_changed=3,
        weights_total=1000,
        patch_bytes=10,
        warnings=["é ☃"],
        cost=Cost(
            wall_seconds=1.5,
            phase_seconds={"fit": 1.0},
            forward_passes=1,
            backward_passes=1,
            peak_memory_bytes=1,
        ),
    )


def painted_report() -> Report:
    """The report of a run that painted four pictures of the target and three of something else."""
    grid = PictureGrid(target=0, of_target=4, of_retained=3, png=PICTURE)
    return report(Verdict.FAIL).model_copy(update={"pictures": (grid,)})


def shelve(database: Database, *names: str) -> None:
    with database.transaction() as session:
        for name in names:
            models.add(
                session,
                record(name),
                digest=DIGEST,
                domains=["name"],
                methods=["razor"],
                principal=PRINCIPAL,
                now=START,
            )


def accept(
    session: Session,
    asked: UnlearnRequest | None = None,
    *,
    tenant: str = TENANT,
    due_at: datetime | None = None,
    key: idempotency.Key | None = None,
    samples: Sequence[str] = ("c" * 64,),
    now: datetime = START,
    approval_required: bool = False,
    retention_days: int = 0,
) -> jobs.Job:
    return jobs.accept(
        session,
        asked or request(),
        tenant=tenant,
        principal=PRINCIPAL,
        samples=samples,
        probe_samples=(),
        due_at=due_at,
        idempotency=key,
        now=now,
        approval_required=approval_required,
        retention_days=retention_days,
    )


def claim(session: Session, worker: str = "w1", now: datetime = START) -> jobs.Job | None:
    return jobs.claim(session, worker=worker, lease_seconds=15, now=now)


def beat(session: Session, job: jobs.Job, fraction: float = 0.5, now: datetime = START) -> bool:
    return jobs.heartbeat(
        session,
        job.id,
        job.token,
        lease_seconds=15,
        phase="fit",
        fraction=fraction,
        eta_seconds=2.0,
        now=now,
    )


def succeed(session: Session, job: jobs.Job, now: datetime = START) -> jobs.Job:
    """End the job with a patch made on its model's latest version."""
    model = job.request.model
    parent = models.get(session, model).latest_version
    return jobs.finish(
        session,
        job.id,
        job.token,
        status=JobStatus.SUCCEEDED,
        outcome=Outcome.PATCHED,
        report=report(),
        patch=new_patch(model, parent),
        now=now,
    )
