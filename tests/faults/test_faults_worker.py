"""A run that its worker cannot survive, or cannot store: the queue moves on, nothing loops."""

from __future__ import annotations

import errno
import os
import resource
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from api_schemas.jobs import JobStatus, Outcome
from benchmarks.world import World, model_id, prepared
from cli.stack import free_port
from razor import room
from razor.errors import Cancelled, OutOfMemory
from registry import jobs
from registry.settings import Settings
from worker import failures, runner
from worker.heartbeat import Heartbeat

ATTEMPTS = 2
POISON, OTHER = model_id(0), model_id(1)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Two models, and leases that are over at once."""
    with prepared(tmp_path, None, shelf=2) as made:
        yield made
    runner.close()


def job_of(world: World, job_id: str) -> jobs.Job:
    with world.database.reading() as session:
        return jobs.get(session, job_id)


def impatient(world: World) -> Settings:
    return world.settings.model_copy(
        update={"lease_seconds": 0.2, "heartbeat_seconds": 0.05, "max_attempts": ATTEMPTS}
    )


def in_a_child(work: Callable[[], None]) -> int:
    """The status of a process of its own that did this."""
    with warnings.catch_warnings():
        # Threads of the parent do not live on in the child, and it needs none of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def trivial(child: Any, job: jobs.Job, _: Heartbeat) -> None:
    """A run that finds nothing to do."""
    runner._finish(child, job, status=JobStatus.SUCCEEDED, outcome=Outcome.NOTHING_TO_FORGET)


def reap_until(world: World, true: Callable[[], bool]) -> None:
    """What the front's reaper does, until this is true."""
    for _ in range(100):
        with world.database.transaction() as session:
            jobs.reap(session, max_attempts=ATTEMPTS, now=datetime.now(UTC))
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("the reaper did not do it")


def test_a_job_that_kills_its_worker_is_put_aside_and_the_queue_moves_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = impatient(world)
    poisoned, behind, other = world.accept(POISON), world.accept(POISON), world.accept(OTHER)

    def run(child: Any, job: jobs.Job, heartbeat: Heartbeat) -> None:
        if job.id == poisoned:
            os.kill(os.getpid(), signal.SIGKILL)
        trivial(child, job, heartbeat)

    monkeypatch.setattr(runner, "_run", run)
    deaths = 0
    for _ in range(ATTEMPTS):
        reap_until(world, lambda: job_of(world, poisoned).status is JobStatus.QUEUED)
        deaths += os.WIFSIGNALED(in_a_child(lambda: runner.work(settings)))
        # While the dead worker is believed in, other models' jobs are done.
        assert in_a_child(lambda: runner.work(settings)) == 0
    assert deaths == ATTEMPTS
    assert job_of(world, other).status is JobStatus.SUCCEEDED
    reap_until(world, lambda: job_of(world, poisoned).status.is_final)
    ended = job_of(world, poisoned)
    assert (ended.status, ended.attempts) == (JobStatus.FAILED, ATTEMPTS)
    assert ended.error is not None
    assert ended.error.code == "dead_lettered"
    assert in_a_child(lambda: runner.work(settings)) == 0
    assert job_of(world, behind).status is JobStatus.SUCCEEDED


def of_python() -> None:
    bytearray(2**36)


def of_torch() -> None:
    torch.ones(2**34)


@pytest.mark.parametrize("greed", [of_python, of_torch])
def test_a_job_that_needs_more_memory_than_there_may_be_fails_once_and_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch, greed: Callable[[], None]
) -> None:
    settings = impatient(world)
    hungry, other = world.accept(POISON), world.accept(OTHER)

    def run(child: Any, job: jobs.Job, heartbeat: Heartbeat) -> None:
        if job.id == hungry:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
            greed()
        trivial(child, job, heartbeat)

    monkeypatch.setattr(runner, "_run", run)

    def work() -> None:
        # The same process goes on: the failure has taken nothing with it.
        runner.work(settings)
        runner.work(settings)

    assert in_a_child(work) == 0
    ended = job_of(world, hungry)
    assert (ended.status, ended.attempts) == (JobStatus.FAILED, 1)
    assert ended.error is not None
    assert (ended.error.code, ended.error.retryable) == ("out_of_memory", False)
    assert "memory" in ended.error.message
    assert job_of(world, other).status is JobStatus.SUCCEEDED


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), OutOfMemory()],
    ids=lambda error: type(error).__name__,
)
def test_every_shortage_of_memory_has_one_code(error: Exception) -> None:
    found = failures.final_error(error)
    assert found is not None
    assert found.code == "out_of_memory"


def test_other_errors_are_no_shortage_of_memory() -> None:
    assert not room.is_shortage(RuntimeError("shapes do not fit"))
    assert failures.final_error(RuntimeError("shapes do not fit")) is None


def claimed(world: World) -> jobs.Job:
    world.accept(POISON)
    with world.database.transaction() as session:
        job = jobs.claim(session, worker="w", lease_seconds=30, now=datetime.now(UTC))
    assert job is not None
    return job


@pytest.fixture
def refusing(world: World, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The error numbers with which storing a patch fails, one after the other; then it works."""
    wanted = [errno.ENOSPC, errno.EROFS]

    def store(*_: object) -> str:
        if wanted:
            raise OSError(wanted.pop(0), "refused")
        return "stored"

    monkeypatch.setattr(runner, "_store", store)
    return wanted


def kept(world: World, job: jobs.Job) -> object:
    settings = world.settings.model_copy(update={"storage_pause_seconds": 0.05})
    child = runner._Child(settings, world.database, None, None)  # type: ignore[arg-type]
    with Heartbeat(world.database, job, lease_seconds=30, interval=0.02) as heartbeat:
        return runner._kept(child, None, None, job, None, heartbeat)  # type: ignore[arg-type]


def test_a_finished_run_waits_for_a_full_disk(world: World, refusing: list[int]) -> None:
    assert kept(world, claimed(world)) == "stored"
    assert refusing == []


def test_a_finished_run_waits_for_the_database(
    world: World, refusing: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is away when the file is to be noted; what is wrong with a statement stays wrong."""
    later = runner._store
    faults: list[DBAPIError] = [OperationalError("", {}, Exception())]

    def store(*arguments: object) -> object:
        if faults:
            raise faults.pop()
        return later(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(runner, "_store", store)
    job = claimed(world)
    assert kept(world, job) == "stored"
    assert refusing == []
    faults.append(ProgrammingError("", {}, Exception()))
    with pytest.raises(ProgrammingError):
        kept(world, job)


def test_who_waits_for_a_full_disk_can_be_canceled(world: World, refusing: list[int]) -> None:
    refusing[:] = [errno.ENOSPC] * 10_000
    job = claimed(world)
    with world.database.transaction() as session:
        jobs.cancel(session, job.id, tenant=None, principal="tester", now=datetime.now(UTC))
    with pytest.raises(Cancelled):
        kept(world, job)


def test_other_errors_of_a_disk_are_not_waited_for(world: World, refusing: list[int]) -> None:
    refusing[:] = [errno.EACCES]
    with pytest.raises(OSError, match="refused"):
        kept(world, claimed(world))


def test_a_wake_up_without_a_database_is_harmless(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://postgres@127.0.0.1:{free_port()}/postgres"
    settings = Settings(data_folder=tmp_path, database_url=url)
    runner.close()
    runner.work(settings)
    runner.close()
