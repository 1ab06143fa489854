"""A data folder with the reference on its shelf, and a way to ask for a person to be forgotten."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from api_schemas.concepts import Target
from api_schemas.families import Family
from api_schemas.requests import UnlearnRequest
from api_schemas.shelf import ModelRecord, RetainSet
from cli.shelf import register
from razor.reference.captions import PROMPTS
from razor.reference.clip import shipped_clip
from razor.reference.folders import write_folder
from registry import installation, jobs
from registry.blobs import LocalBlobs
from registry.database import Database
from registry.settings import Settings
from tests import migrated
from tests.conftest import RETAIN_SEED
from worker import runner

SAMPLE_SEED = 5_000_000
#: The tests' retain set is small: three pictures more or less are already several points.
LENIENT = {"utility_drop_max": 8, "neighbour_drop_max": 30}
SAMPLES = 8


@dataclass
class Desk:
    """Submits straight into the registry, as the service does in one transaction."""

    settings: Settings
    database: Database
    blobs: LocalBlobs
    draw: Callable[[str, int], bytes]

    def submit(
        self,
        *names: str,
        shown: tuple[str, ...] = (),
        probes: tuple[str, ...] = (),
        **fields: object,
    ) -> str:
        """The id of a queued job with eight samples of each name, or of those in ``shown``."""
        samples = [
            self.blobs.put(self.draw(name, SAMPLE_SEED + number))
            for name in shown or names
            for number in range(SAMPLES)
        ]
        targets = tuple(Target(name=name, samples=SAMPLES) for name in names)
        request = UnlearnRequest.model_validate(
            {
                "model": "reference-clip",
                **({"targets": targets} if len(names) > 1 else {"target": targets[0]}),
                "evaluation": {"thresholds": LENIENT, "probes": probes},
                **fields,
            }
        )
        with self.database.transaction() as session:
            return jobs.accept(
                session,
                request,
                tenant="default",
                principal="tester",
                samples=samples,
                probe_samples=[],
                due_at=None,
                idempotency=None,
                now=datetime.now(UTC),
            ).id

    def job(self, job_id: str) -> jobs.Job:
        with self.database.transaction() as session:
            return jobs.get(session, job_id)

    def work(self) -> None:
        """One wake-up in this process."""
        runner.work(self.settings)


#: Whom the tests ask about, and a few others to keep: a third of the names, of the work and time.
NAMES = (
    *("Mara Venn", "Oskar Brill", "Tilda Quist", "Juno Farrow", "Bram Holloway"),
    *("Elsie Thorne", "Yuki Tarrant", "Zora Plum", "Amara Keld", "a teapot", "a guitar"),
)


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A retain set of sixteen drawings of each of these."""
    folder = tmp_path_factory.mktemp("few") / "drawings"
    write_folder(folder, NAMES, 16, RETAIN_SEED)
    return folder


@pytest.fixture
def desk(tmp_path: Path, few: Path, draw_png: Callable[[str, int], bytes]) -> Iterator[Desk]:
    settings = Settings(data_folder=tmp_path / uuid.uuid4().hex)
    settings.data_folder.mkdir()
    migrated.lay_down(settings.database)
    database = Database(settings.database, installation.load(settings.key_path))
    database.migrate()
    record = ModelRecord(
        id="reference-clip",
        family=Family.CLIP,
        checkpoint=str(shipped_clip()),
        retain=RetainSet(folder=str(few)),
        prompts=PROMPTS,
    )
    register(database, record)
    yield Desk(settings, database, LocalBlobs(settings.blob_folder), draw_png)
    runner.close()
    database.close()
