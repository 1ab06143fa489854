"""A front, a worker and their servers, made to be killed; one for many cells."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy.exc import DBAPIError

from api_schemas.concepts import Target
from api_schemas.families import Family
from api_schemas.methods import Razor
from api_schemas.requests import Evaluation, Thresholds, UnlearnRequest
from api_schemas.shelf import ModelRecord, RetainSet
from cli.shelf import register
from cli.stack import environment_for, free_port
from cli.up import first_key
from client import Client, ProblemError, ServiceUnreachable
from razor.reference import folders
from razor.reference.clip import shipped_clip
from registry import failpoints, installation, jobs
from registry.blobs import LocalBlobs
from registry.database import Database
from registry.failpoints import Point
from registry.settings import Settings
from tests.crash.cells import Backend, Role, Victim
from tests.crash.processes import Ours
from tests.crash.servers import Postgres, Redis, Server
from tests.service.webhook_world import Receiver, receiving

PERSON: Final = "Mara Venn"
SEED: Final = 0
SAMPLES: Final = 3
#: Some of the invented people, a few drawings of each: a run costs about one processor second.
RETAINED: Final = (PERSON, "Oskar Brill", "Tilda Quist", "Juno Farrow")
RETAIN_EACH: Final = 6
RETAIN_SEED: Final = 700
#: How long anything may take here before it counts as lost, on however slow a machine.
PATIENCE_SECONDS: Final = 240.0
#: Everything that the service does now and then, it does at once. Attempts are plenty: a machine
#: that is busy with other things may lose a lease that short for no fault of the code's.
HASTE: Final = {
    "RAZOR_LEASE_SECONDS": "3",
    "RAZOR_HEARTBEAT_SECONDS": "0.5",
    "RAZOR_MAX_ATTEMPTS": "20",
    "RAZOR_RELAY_SECONDS": "0.1",
    "RAZOR_RECOVERY_SECONDS": "0.3",
    "RAZOR_RESEND_AFTER_SECONDS": "2",
    "RAZOR_SWEEP_SECONDS": "0.5",
    "RAZOR_WEBHOOK_SECONDS": "0.2",
    "RAZOR_WEBHOOK_ALLOW_PRIVATE": "true",
}


@dataclass
class Stack:
    """What runs, and what is known of it from outside."""

    backend: Backend
    folder: Path
    settings: Settings
    database: Database
    key: str
    front: Ours
    worker: Ours
    servers: dict[Victim, Server]
    receiver: Receiver
    samples: list[bytes]
    #: The patch of the run that nobody disturbed.
    digest: str = ""
    #: Size and root of the audit log as it was after the last cell.
    log: tuple[int, bytes] = (0, b"")
    models: int = field(default=0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    @property
    def blobs(self) -> LocalBlobs:
        return LocalBlobs(self.settings.blob_folder)

    def points(self, role: Role) -> Path:
        return self.folder / role.value

    def another_model(self) -> str:
        """The id of the reference model once more, on the shelf under a name of its own."""
        self.models += 1
        name = f"clip-{self.models}"
        record = ModelRecord(
            id=name,
            family=Family.CLIP,
            checkpoint=str(shipped_clip()),
            retain=RetainSet(folder=str(self.folder / "retain")),
        )
        register(self.database, record)
        return name

    def post(self, model: str) -> str:
        """The job's id, however often it has to be asked: as a client does, with one key."""
        request = UnlearnRequest(
            model=model,
            target=Target(name=PERSON),
            seed=SEED,
            method=Razor(steps=1, rounds=0, search_evaluations=2, towers=("text",), heads=False),
            evaluation=Evaluation(thresholds=ANYTHING, probes=()),
        )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                with Client(self.url, api_key=self.key, timeout=30.0) as client:
                    return client.submit(request, self.samples, idempotency_key=model).id
            except (ServiceUnreachable, ProblemError) as error:
                refused = isinstance(error, ProblemError) and error.problem.status < 500
                if refused or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def arm(self, point: Point, role: Role) -> None:
        self.points(role).mkdir(exist_ok=True)
        (self.points(role) / f"{point}.armed").touch()

    def stands(self, point: Point, role: Role) -> bool:
        """Whether a process is there, has said so in full, and stands still."""
        here = self.points(role) / f"{point}.here"
        return here.exists() and here.read_text().endswith("\n")

    def go_on(self, point: Point, role: Role) -> None:
        (self.points(role) / f"{point}.here").unlink()

    def kill(self, victim: Victim) -> None:
        match victim:
            case Victim.API:
                self.front.kill()
            case Victim.PARENT:
                self.worker.kill()
            case Victim.CHILD:
                self.worker.kill_child()
            case Victim.BROKER | Victim.DATABASE:
                self.servers[victim].kill()

    def restart(self, victim: Victim) -> None:
        """What was killed runs again; a child is for its parent to replace."""
        match victim:
            case Victim.API:
                self.front.start()
            case Victim.PARENT:
                self.worker.start()
            case Victim.BROKER | Victim.DATABASE:
                self.servers[victim].start()

    def final(self, job_id: str) -> bool:
        """Whether the job has ended, as the database has it."""
        return self.read(lambda: self._job(job_id).status.is_final)

    def read(self, look: Callable[[], bool]) -> bool:
        """What ``look`` finds, False while the database is away."""
        with suppress(DBAPIError):
            return look()
        return False

    def _job(self, job_id: str) -> jobs.Job:
        with self.database.reading() as session:
            return jobs.get(session, job_id)

    def until(self, what: Callable[[], bool], name: str) -> None:
        """Return once it is so. Raises ``AssertionError`` with the logs when it takes too long."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not what():
            if time.monotonic() > deadline:
                logs = f"front:\n{self.front.tail()}\nworker:\n{self.worker.tail()}"
                raise AssertionError(f"{name}: not in {PATIENCE_SECONDS:.0f} s\n{logs}")
            time.sleep(0.02)


#: Whatever comes out is published: here only what is kept and lost counts, not how well it forgets.
ANYTHING: Final = Thresholds(
    forget_accuracy_max=100,
    utility_drop_max=100,
    neighbour_drop_max=100,
    stability_min=0,
    cross_domain_drop_max=100,
)


@contextmanager
def running(backend: Backend, draw: Callable[[str, int], bytes]) -> Iterator[Stack]:
    """The stack, ready, with a webhook on a receiver of ours. Raises ``servers.Missing``."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="razor-crash-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        servers: dict[Victim, Server] = {}
        if backend is Backend.PRODUCTION:
            for victim, make in ((Victim.DATABASE, Postgres), (Victim.BROKER, Redis)):
                servers[victim] = make()
                stack.callback(servers[victim].remove)
                servers[victim].start()
        settings = _settings(folder, servers)
        database = Database(settings.database, installation.load(settings.key_path))
        stack.callback(database.close)
        database.migrate()
        folders.write_folder(folder / "retain", RETAINED, RETAIN_EACH, RETAIN_SEED)
        issued = first_key(settings)
        assert issued is not None
        found = Stack(
            backend=backend,
            folder=folder,
            settings=settings,
            database=database,
            key=issued.text,
            front=_ours("service", folder, settings, Role.FRONT),
            worker=_ours("worker", folder, settings, Role.WORKER),
            servers=servers,
            receiver=stack.enter_context(receiving()),
            samples=[draw(PERSON, 5_000_000 + number) for number in range(SAMPLES)],
        )
        for process in (found.front, found.worker):
            stack.callback(process.remove)
            process.start()
        found.until(lambda: _ready(found), "the front is ready")
        with Client(found.url, api_key=found.key) as client:
            client.add_webhook(found.receiver.url)
        yield found


def _settings(folder: Path, servers: dict[Victim, Server]) -> Settings:
    data = folder / "data"
    data.mkdir()
    urls = {victim: server.url for victim, server in servers.items()}
    return Settings(
        data_folder=data,
        port=free_port(),
        database_url=urls.get(Victim.DATABASE),
        broker_url=urls.get(Victim.BROKER),
    )


def _ours(module: str, folder: Path, settings: Settings, role: Role) -> Ours:
    armed = {failpoints.VARIABLE: str(folder / role.value)}
    environment = {**environment_for(settings), **HASTE, **armed}
    return Ours(module, folder / f"{module}.log", environment)


def _ready(stack: Stack) -> bool:
    with suppress(ServiceUnreachable, ProblemError), Client(stack.url, timeout=5.0) as client:
        return client.readyz().status == "ready"
    return False
