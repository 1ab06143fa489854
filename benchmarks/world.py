"""The service as real processes on a database of its own, a shelf of models, a patch to fetch."""

from __future__ import annotations

import io
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.orm import Session

from api_schemas.access import Scope
from api_schemas.concepts import Target
from api_schemas.families import Family
from api_schemas.jobs import JobStatus, Outcome
from api_schemas.methods import names
from api_schemas.patches import BaseModelRef, PatchManifest, Provenance
from api_schemas.reports import DataRoles, Gate, Verdict
from api_schemas.requests import UnlearnRequest
from api_schemas.shelf import ModelRecord, RetainSet
from api_schemas.tenants import DEFAULT_TENANT
from benchmarks import bare
from benchmarks.wire import Caller
from cli.stack import Process, environment_for, free_port
from registry import ids, installation, jobs, keys, models, tenants
from registry.blobs import LocalBlobs
from registry.database import Database
from registry.patches import NewPatch
from registry.settings import Settings

ACTOR = "operator"
PATCH_BYTES = 16 * 2**20
START_SECONDS, STOP_SECONDS = 60.0, 10.0
_NO_DIGEST = "0" * 64


@dataclass(frozen=True)
class World:
    """A prepared database, and what callers need to know of it."""

    settings: Settings
    database: Database
    key: str

    @property
    def headers(self) -> dict[str, str]:
        """What a caller presents."""
        return {"authorization": f"Bearer {self.key}"}

    def accept(self, model: str, created_at: datetime | None = None) -> str:
        """The id of one more queued job, straight through the registry."""
        with self.database.transaction() as session:
            return accept(session, model, created_at or datetime.now(UTC)).id


@contextmanager
def private_schema(url: str) -> Iterator[str]:
    """The address of an empty schema in this PostgreSQL database, dropped at the end."""
    engine, name = create_engine(url), f"razor_load_{uuid.uuid4().hex}"
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    try:
        own = make_url(url).update_query_dict({"options": f"-csearch_path={name}"})
        yield own.render_as_string(hide_password=False)
    finally:
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
        engine.dispose()


@contextmanager
def prepared(folder: Path, database_url: str | None, shelf: int = 1) -> Iterator[World]:
    """A world in ``folder`` with ``shelf`` models."""
    settings = Settings(data_folder=folder, database_url=database_url, port=free_port())
    settings.data_folder.mkdir(parents=True, exist_ok=True)
    database = Database(settings.database, installation.load(settings.key_path))
    database.migrate()
    now = datetime.now(UTC)
    with database.transaction() as session:
        tenants.ensure(session, DEFAULT_TENANT, actor=ACTOR, now=now)
        key = keys.create(
            session,
            tenant=DEFAULT_TENANT,
            name="load",
            scopes=Scope,
            expires_at=None,
            actor=ACTOR,
            now=now,
        ).text
        for number in range(shelf):
            _shelve(session, model_id(number), now)
    try:
        yield World(settings, database, key)
    finally:
        database.close()


@contextmanager
def serving(world: World) -> Iterator[Process]:
    """The front of ``python -m service`` on it, ready, without a worker."""
    log = world.settings.data_folder / "logs" / "api.log"
    process = Process("api", "service", log, environment_for(world.settings))
    process.start()
    try:
        _wait(process, world.settings.port, "/readyz")
        yield process
    finally:
        process.ask_to_stop()
        process.stop(time.monotonic() + STOP_SECONDS)


@contextmanager
def bare_serving(
    folder: Path, view: bytes, patch: Path, database_url: str | None
) -> Iterator[tuple[Process, int]]:
    """``benchmarks.bare``, which answers with these bytes, and its port."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "view.json").write_bytes(view)
    (folder / "patch").hardlink_to(patch)
    port = free_port()
    log = folder / "bare.log"
    environment = {**os.environ, bare.PORT: str(port), bare.FOLDER: str(folder)}
    if database_url is not None:
        environment[bare.DATABASE] = database_url.replace("+psycopg", "")
    process = Process("bare", "benchmarks.bare", log, environment)
    process.start()
    try:
        _wait(process, port, "/jobs/1")
        yield process, port
    finally:
        process.ask_to_stop()
        process.stop(time.monotonic() + STOP_SECONDS)


def model_id(number: int) -> str:
    """The id of one of the shelf's models."""
    return f"model-{number}"


def accept(session: Session, model: str, now: datetime) -> jobs.Job:
    """A queued job for one invented person, without pictures on disk."""
    request = UnlearnRequest(model=model, target=Target(name="Mara Venn"))
    return jobs.accept(
        session,
        request,
        tenant=DEFAULT_TENANT,
        principal="key:load",
        samples=[_NO_DIGEST] * 8,
        probe_samples=[],
        due_at=None,
        idempotency=None,
        now=now,
    )


def pictures(count: int, side: int, seed: int) -> list[bytes]:
    """So many different JPEG files that compress about as photographs do."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), dtype=np.int16)
        grain = rng.normal(0, 6, smooth.shape).astype(np.int16)
        image = Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=90)
        found.append(buffer.getvalue())
    return found


def _shelve(session: Session, name: str, now: datetime) -> None:
    record = ModelRecord(
        id=name, family=Family.CLIP, checkpoint="/nowhere", retain=RetainSet(folder="/nowhere")
    )
    models.add(
        session,
        record,
        digest=f"sha256:{_NO_DIGEST}",
        domains=["name"],
        methods=names(Family.CLIP),
        principal=ACTOR,
        now=now,
    )


def finished(world: World) -> str:
    """The id of a patch of ``PATCH_BYTES`` that a finished job left."""
    name, now = model_id(0), datetime.now(UTC)
    digest = LocalBlobs(world.settings.blob_folder).put(os.urandom(PATCH_BYTES))
    world.accept(name)
    roles = dict.fromkeys(DataRoles.model_fields, 1) | {
        "target_digest": _NO_DIGEST,
        "retain_digest": _NO_DIGEST,
    }
    manifest = PatchManifest(
        format_version=1,
        model=BaseModelRef(
            id=name,
            family=Family.CLIP,
            checkpoint_digest=f"sha256:{_NO_DIGEST}",
            parent=0,
            parent_patches=[],
        ),
        tensors=[],
        patch_sha256=digest,
        patch_bytes=PATCH_BYTES,
        units=[],
        provenance=Provenance(
            method={}, seed=0, libraries={}, device="cpu", dtype="float32", threads=1
        ),
        roles=DataRoles.model_validate(roles),
        metrics=[],
        gate=Gate(verdict=Verdict.PASS, weak_evidence=False, checks=[]),
    )
    patch = NewPatch(ids.new_patch_id(), digest, PATCH_BYTES, manifest)
    with world.database.transaction() as session:
        job = jobs.claim(session, worker="load", lease_seconds=60, now=now)
        assert job is not None, "the job that was just accepted can be claimed"
        jobs.finish(
            session,
            job.id,
            job.token,
            status=JobStatus.SUCCEEDED,
            outcome=Outcome.PATCHED,
            patch=patch,
            now=now,
        )
    return patch.id


def _wait(process: Process, port: int, path: str) -> None:
    """Return once it answers there. Raises AssertionError with its log."""
    until = time.monotonic() + START_SECONDS
    while True:
        with suppress(OSError, AssertionError):
            Caller(port).call("GET", path)
            return
        assert process.exit_code() is None, process.tail()
        assert time.monotonic() < until, process.tail()
        time.sleep(0.1)
