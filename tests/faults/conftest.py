"""Servers and disks of the tests' own, that can be stopped, frozen and filled up."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import redis

from cli.stack import free_port

SERVICE_TESTS = Path(__file__).parent.parent / "service"
# The worlds that the front's own tests use.
sys.path.insert(0, str(SERVICE_TESTS))

#: How long an outage lasts, in seconds; the full length is 60.
OUTAGE_SECONDS = float(os.environ.get("RAZOR_TEST_OUTAGE_SECONDS", "2"))
PATIENCE_SECONDS = 30.0


def until(true: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Return once this is true; an exception means: not yet."""
    deadline = time.monotonic() + seconds
    while True:
        with suppress(Exception):
            if true():
                return
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)


def unavailable(reason: str) -> None:
    """Skips where something is not at hand; fails where it has to be."""
    if os.environ.get("RAZOR_REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here; injected faults are tested all the same")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@dataclass
class Server:
    """A database or broker that belongs to one test."""

    url: str
    start: Callable[[], None]
    stop: Callable[[], None]
    pids: Callable[[], list[int]]

    def freeze(self) -> None:
        """It answers nothing, and its connections stand."""
        for pid in self.pids():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on where it stood."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="session")
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        unavailable("PostgreSQL's programs are not installed")
    # A cluster refuses to run as root, and its socket's path must be short.
    home = Path("/tmp") / f"razor-cluster-{os.getpid()}"
    home.mkdir(mode=0o755)
    as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    prefix = as_postgres if os.geteuid() == 0 else []
    if prefix:
        shutil.chown(home, "postgres", "postgres")
    port, data = free_port(), home / "data"
    options = f"-p {port} -k {home} -c fsync=off -c listen_addresses=127.0.0.1"

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [*prefix, str(programs[-1] / program), "-D", str(data), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=home,
        )

    def start() -> None:
        run("pg_ctl", "start", "-w", "-o", options, "-l", str(home / "log"))

    def stop() -> None:
        run("pg_ctl", "stop", "-m", "immediate", "-w")

    def pids() -> list[int]:
        parent = int((data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [parent, *map(int, children)]

    run("initdb", "-A", "trust", "-U", "postgres", "-N")
    start()
    url = f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
    server = Server(url, start, stop, pids)
    try:
        yield server
    finally:
        with suppress(FileNotFoundError):
            server.thaw()
        with suppress(subprocess.CalledProcessError):
            stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def postgres(_cluster: Server) -> Iterator[Server]:
    """A PostgreSQL server of our own, empty and running."""
    plain = _cluster.url.replace("+psycopg", "")
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    yield _cluster
    with suppress(FileNotFoundError):
        _cluster.thaw()
    with suppress(subprocess.CalledProcessError):
        _cluster.start()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Server]:
    """A Redis server of our own, running; what it holds is lost when it stops."""
    program = shutil.which("redis-server")
    if program is None:
        unavailable("Redis is not installed")
    port = free_port()
    running: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        command = [str(program), "--port", str(port), "--save", "", "--bind", "127.0.0.1"]
        running.append(subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL))
        client = redis.Redis(port=port)
        until(client.ping)
        client.close()

    def stop() -> None:
        if running:
            process = running.pop()
            process.kill()
            process.wait()

    start()
    yield Server(
        f"redis://127.0.0.1:{port}/0", start, stop, lambda: [process.pid for process in running]
    )
    for process in running:
        process.send_signal(signal.SIGCONT)
    stop()


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """No process of ours writes a longer file: further bytes are refused as on a full disk."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
