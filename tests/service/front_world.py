"""A front on a data folder of its own, a model on its shelf, and jobs brought to their ends."""

from __future__ import annotations

import hashlib
import io
import random
import struct
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import func, select

from api_schemas.access import Scope
from api_schemas.concepts import Target
from api_schemas.families import Family
from api_schemas.jobs import JobError, JobStatus, Outcome
from api_schemas.methods import Razor, names
from api_schemas.patches import BaseModelRef, PatchManifest, Provenance, TensorEntry
from api_schemas.reports import Cost, DataRoles, Gate, Measurement, Preflight, Report, Verdict
from api_schemas.requests import UnlearnRequest
from api_schemas.shelf import ModelRecord, RetainSet
from api_schemas.tenants import DEFAULT_TENANT
from patches import container, digests, folder
from registry import ids, jobs, keys, models, tenants
from registry.jobs import Job
from registry.patches import NewPatch
from registry.settings import Settings
from registry.tables import AuditRow, IdempotencyRow, JobRow, OutboxRow
from service import app as app_module
from service.app import create_app
from service.broker import Broker, MemoryBroker
from service.parts import Parts, now
from tests import migrated

MODEL = "reference-clip"
TENANT = DEFAULT_TENANT
PRINCIPAL = "key:tester"
#: In no other text of the project, so that finding it anywhere means that it leaked.
SECRET_NAME = "Quillon Vexmere"
SHAPE = (4, 6)
NO_DIGEST = "0" * 64


@dataclass
class World:
    """One front, reached over HTTP (``http``) and from behind (``parts``)."""

    app: FastAPI
    parts: Parts
    root: Path
    http: TestClient | None = None

    def stored(self) -> dict[str, int]:
        """How much there is of everything that an accepted request leaves behind."""
        with self.parts.database.transaction() as session:
            rows = {
                row.__tablename__: session.scalar(select(func.count()).select_from(row)) or 0
                for row in (JobRow, OutboxRow, IdempotencyRow)
            }
            # Those of keys and tenants are not of any request.
            by_requests = AuditRow.object_type.not_in(["key", "tenant"])
            rows["audit"] = session.scalar(select(func.count()).where(by_requests)) or 0
        return rows | {"blobs": len(list(self.parts.blobs.digests()))}

    def until_sent(self, seconds: float = 10) -> None:
        """The relay has nothing left to send: what is counted next changes by calls alone."""
        until = time.monotonic() + seconds
        while self.stored()["outbox"]:
            assert time.monotonic() < until, "the relay sent nothing"
            time.sleep(0.01)

    def new_key(self, *scopes: Scope, tenant: str = TENANT, **changes: Any) -> str:
        """The text of a new key with these scopes."""
        wanted = {"name": "test", "expires_at": None} | changes
        with self.parts.database.transaction() as session:
            tenants.ensure(session, tenant, actor="operator", now=now())
            return keys.create(
                session, tenant=tenant, scopes=scopes, actor="operator", now=now(), **wanted
            ).text

    @property
    def key(self) -> str:
        """A key with every scope; the same for every world on this folder, as for a client."""
        kept = self.root / "test-key"
        if not kept.exists():
            kept.write_text(self.new_key(*Scope))
        return kept.read_text()

    def job(self, job_id: str) -> Job:
        with self.parts.database.transaction() as session:
            return jobs.get(session, job_id)

    def accept(
        self,
        *,
        principal: str = PRINCIPAL,
        approval_required: bool = False,
        retention_days: int = 0,
        **changes: Any,
    ) -> str:
        """A job that is queued or awaits approval, straight through the registry."""
        request = unlearn_request(**changes)
        digest = self.parts.blobs.put(pictures(1)[0])
        with self.parts.database.transaction() as session:
            job = jobs.accept(
                session,
                request,
                tenant=TENANT,
                principal=principal,
                samples=[digest] * 3,
                probe_samples=[],
                due_at=request.due_at,
                idempotency=None,
                now=now(),
                approval_required=approval_required,
                retention_days=retention_days,
            )
        return job.id

    def claim(self) -> Job:
        with self.parts.database.transaction() as session:
            job = jobs.claim(session, worker="w1", lease_seconds=60, now=now())
        assert job is not None
        return job

    def progress(self, job: Job, *, phase: str, fraction: float) -> None:
        with self.parts.database.transaction() as session:
            jobs.heartbeat(
                session,
                job.id,
                job.token,
                lease_seconds=60,
                phase=phase,
                fraction=fraction,
                eta_seconds=None,
                now=now(),
            )

    def finish(self, job: Job, verdict: Verdict = Verdict.PASS) -> Job:
        """End a claimed job with a patch: published if it passes, a candidate if not."""
        passed = verdict is Verdict.PASS
        with self.parts.database.transaction() as session:
            latest = models.get(session, MODEL).latest_version
            line = models.lineage(session, MODEL, latest)
        patch = self._patch(latest, parents=[patch.sha256 for patch in line], verdict=verdict)
        with self.parts.database.transaction() as session:
            return jobs.finish(
                session,
                job.id,
                job.token,
                status=JobStatus.SUCCEEDED if passed else JobStatus.REJECTED,
                outcome=Outcome.PATCHED if passed else Outcome.GATE_REFUSED,
                report=report(patch.manifest),
                patch=patch,
                now=now(),
            )

    def fail(self, job: Job) -> Job:
        error = JobError(code="out_of_memory", message="Use a smaller model.", retryable=False)
        with self.parts.database.transaction() as session:
            return jobs.finish(
                session,
                job.id,
                job.token,
                status=JobStatus.FAILED,
                outcome=Outcome.ERROR,
                error=error,
                now=now(),
            )

    def finished(self, verdict: Verdict = Verdict.PASS, *, retention_days: int = 0) -> Job:
        self.accept(retention_days=retention_days)
        return self.finish(self.claim(), verdict)

    def expire(self, job: Job) -> None:
        """Let the claim's lease end in the past."""
        with self.parts.database.transaction() as session:
            row = session.get_one(JobRow, job.id)
            row.lease_expires_at = now() - timedelta(seconds=1)

    @property
    def checkpoint(self) -> Path:
        return self.root / "checkpoint"

    def _patch(self, parent: int, *, parents: list[str], verdict: Verdict) -> NewPatch:
        number = len(parents) + 1
        values = values_of(number)
        file = self.root / f"{ids.new_patch_id()}.safetensors"
        entry = TensorEntry(
            key="weight[0:1,0:6]",
            file="model.safetensors",
            tensor="weight",
            dtype="F32",
            shape=list(SHAPE),
            slice=[(0, 1), (0, 6)],
            sha256_before=NO_DIGEST,
            sha256_after=NO_DIGEST,
        )
        data = container.TensorData("F32", (1, 6), values)
        container.write(file, {entry.key: data}, folder.METADATA)
        manifest = patch_manifest(file, entry, parent, parents=parents, verdict=verdict)
        size = file.stat().st_size
        return NewPatch(
            id=ids.new_patch_id(),
            sha256=self.parts.blobs.put_file(file),
            bytes=size,
            manifest=manifest,
        )

    def expected_weights(self, number: int) -> bytes:
        """The checkpoint's bytes with the values of patch ``number`` in place, by brute force."""
        base = bytearray((self.checkpoint / "model.safetensors").read_bytes())
        header = container.read_header(self.checkpoint / "model.safetensors")
        begin = header.data_start + header.entries["weight"].begin
        base[begin : begin + 24] = values_of(number)
        return bytes(base)


def values_of(number: int) -> bytes:
    """What patch ``number`` of a line puts into the first row of ``weight``."""
    return struct.pack("<6f", *(number + column / 8 for column in range(6)))


@contextmanager
def world(root: Path, *, broker: Broker | None = None, **settings: Any):
    """A front within its lifespan, with ``MODEL`` on its shelf."""
    made = make_world(root, broker=broker, **settings)
    with TestClient(made.app, raise_server_exceptions=False) as http:
        made.http = http
        register(made)
        http.headers |= bearer(made.key)
        yield made


def every_route() -> list[APIRoute]:
    """Every route of a front, whatever its module."""
    routes = [route for router in app_module._ROUTERS for route in router.routes]
    return [route for route in routes if isinstance(route, APIRoute)]


def bearer(key: str) -> dict[str, str]:
    """The header that presents this key."""
    return {"Authorization": f"Bearer {key}"}


def make_world(root: Path, *, broker: Broker | None = None, **settings: Any) -> World:
    """The same before its lifespan begins."""
    values = {"data_folder": root / "data", "relay_seconds": 0.05} | settings
    chosen = Settings(**values)
    migrated.lay_down(chosen.database)
    app = create_app(chosen, broker=broker or MemoryBroker())
    return World(app=app, parts=app.state.parts, root=root)


def register(made: World, model_id: str = MODEL, family: Family = Family.CLIP) -> None:
    """Put a model of this family on the shelf, with real weights on disk."""
    if not made.checkpoint.exists():
        made.checkpoint.mkdir()
        weight = random.Random(0).randbytes(4 * SHAPE[0] * SHAPE[1])
        tensors = {
            "bias": container.TensorData("F32", (4,), bytes(16)),
            "weight": container.TensorData("F32", SHAPE, weight),
        }
        container.write(made.checkpoint / "model.safetensors", tensors, {"format": "pt"})
    record = ModelRecord(
        id=model_id,
        family=family,
        checkpoint=str(made.checkpoint),
        retain=RetainSet(folder=str(made.root / "retain")),
    )
    with made.parts.database.transaction() as session:
        models.add(
            session,
            record,
            digest=digests.checkpoint_digest(made.checkpoint),
            domains=["name"],
            methods=names(family),
            principal="operator",
            now=now(),
        )


def unlearn_request(**changes: Any) -> UnlearnRequest:
    target = {} if "targets" in changes else {"target": Target(name=SECRET_NAME)}
    return UnlearnRequest(**{"model": MODEL, **target, "method": Razor()} | changes)


def fields(**changes: Any) -> dict[str, Any]:
    """The request as a caller writes it."""
    target = {} if "targets" in changes else {"target": {"name": SECRET_NAME}}
    return {"model": MODEL, **target} | changes


def several(*counts: int, **changes: Any) -> list[dict[str, Any]]:
    """So many targets with so many samples each; the changes are the last one's."""
    found = [
        {"name": f"{SECRET_NAME} {number}", "samples": count} for number, count in enumerate(counts)
    ]
    found[-1] |= changes
    return found


def red(number: int) -> tuple[int, int, int]:
    """The colour of picture ``number``, far from the others: lossy formats keep them apart."""
    return 5 * (number % 50), 40 + 20 * (number // 50), 200


def pictures(count: int, *, image_format: str = "PNG", side: int = 8) -> list[bytes]:
    """That many different pictures."""
    return [
        encoded(Image.new("RGB", (side, side), red(number)), image_format)
        for number in range(count)
    ]


def encoded(image: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def as_files(
    samples: Sequence[bytes], probes: Sequence[bytes] = ()
) -> list[tuple[str, tuple[str, bytes, str]]]:
    """Parts of a multipart body, under a file name that must go nowhere."""
    groups = (("samples", samples), ("probe_samples", probes))
    return [
        (field, (f"{SECRET_NAME}.jpg", data, "image/jpeg"))
        for field, files in groups
        for data in files
    ]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def patch_manifest(
    file: Path, entry: TensorEntry, parent: int, *, parents: list[str], verdict: Verdict
) -> PatchManifest:
    return PatchManifest(
        format_version=1,
        model=BaseModelRef(
            id=MODEL,
            family=Family.CLIP,
            checkpoint_digest=f"sha256:{NO_DIGEST}",
            parent=parent,
            parent_patches=parents,
        ),
        tensors=[entry],
        patch_sha256=digests.file_digest(file),
        patch_bytes=file.stat().st_size,
        units=[],
        provenance=Provenance(
            method=Razor(eps=1e-7).model_dump(mode="json"),
            seed=0,
            libraries={},
            device="cpu",
            dtype="float32",
            threads=1,
        ),
        roles=roles(),
        metrics=[],
        gate=Gate(verdict=verdict, weak_evidence=False, checks=[]),
    )


def roles() -> DataRoles:
    return DataRoles(
        target_fit=1,
        target_select=1,
        target_test=1,
        retain_fit=1,
        retain_select=1,
        retain_test=1,
        target_digest=NO_DIGEST,
        retain_digest=NO_DIGEST,
    )


def report(manifest: PatchManifest) -> Report:
    return Report(
        model=MODEL,
        model_version=manifest.model.parent,
        method="razor",
        seed=0,
        roles=manifest.roles,
        preflight=[
            Preflight(
                target=0,
                known=True,
                accuracy=Measurement(value=90.0, n=10, interval=(70.0, 98.0)),
                chance=10.0,
                sample_similarity=0.8,
                kin_similarity=0.8,
                stranger_similarity=0.2,
            )
        ],
        metrics=[],
        robustness=[],
        earlier=[],
        gate=manifest.gate,
        scores=[],
        edited=[],
        weights_changed=6,
        weights_total=28,
        patch_bytes=manifest.patch_bytes,
        warnings=[],
        cost=Cost(
            wall_seconds=1.0,
            phase_seconds={},
            forward_passes=1,
            backward_passes=1,
            peak_memory_bytes=1,
        ),
    )
