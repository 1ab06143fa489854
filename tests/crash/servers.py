"""A PostgreSQL and a Redis of our own on the loopback, so that they can be killed and come back."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

import psycopg
import redis

from cli.stack import free_port

START_SECONDS: Final = 60.0
POSTGRES_FOLDERS: Final = "/usr/lib/postgresql/*/bin"
#: PostgreSQL refuses to run as root; its package makes this user.
POSTGRES_USER: Final = "postgres"


class Missing(Exception):
    """A server's program is not installed."""


class Server(Protocol):
    """A server that a test owns."""

    url: str

    def start(self) -> None:
        """It answers."""

    def kill(self) -> None:
        """SIGKILL to all of its processes at once; what it wrote to files stays."""

    def remove(self) -> None:
        """It is killed, and its files are gone."""


class Postgres:
    """A cluster of its own. A commit is answered after its log is with the kernel.

    ``fsync`` is off: a killed process loses nothing that it gave to the kernel.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="razor-postgres-"))
        self._log = self._folder / "log"
        self._data = self._folder / "data"
        self._port = free_port()
        self.url = f"postgresql+psycopg://razor@127.0.0.1:{self._port}/postgres"
        self._running: subprocess.Popen[bytes] | None = None
        if os.getuid() == 0:
            user = pwd.getpwnam(POSTGRES_USER)
            os.chown(self._folder, user.pw_uid, user.pw_gid)
        try:
            self._make_cluster()
        except BaseException:
            self.remove()
            raise

    def start(self) -> None:
        settings = {
            "port": self._port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": 60,
            "shared_buffers": "16MB",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [*_as_postgres(), _program("postgres"), "-D", str(self._data), *options]
        self._running = _start(command, self._log)
        _until(self._answers, "PostgreSQL")

    def kill(self) -> None:
        _kill(self._running)

    def remove(self) -> None:
        _kill(self._running)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _make_cluster(self) -> None:
        command = [_program("initdb"), "-U", "razor", "--auth=trust", "--no-sync"]
        subprocess.run(
            [*_as_postgres(), *command, "-D", str(self._data)], check=True, capture_output=True
        )

    def _answers(self) -> bool:
        with suppress(psycopg.OperationalError):
            psycopg.connect(self.url.replace("+psycopg", ""), connect_timeout=2).close()
            return True
        return False


class Redis:
    """A server that keeps an append-only file and evicts nothing, as production does."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="razor-redis-"))
        self._port = free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        settings = {
            "port": str(self._port),
            "bind": "127.0.0.1",
            "dir": str(self._folder),
            "save": "",
            "appendonly": "yes",
            "maxmemory-policy": "noeviction",
        }
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        self._running = _start([_program("redis-server"), *options], self._folder / "log")
        _until(self._answers, "Redis")

    def kill(self) -> None:
        _kill(self._running)

    def remove(self) -> None:
        _kill(self._running)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _answers(self) -> bool:
        with suppress(redis.exceptions.ConnectionError), redis.Redis(port=self._port) as server:
            return bool(server.ping())
        return False


def _program(name: str) -> str:
    """Where it is installed. Raises ``Missing``."""
    folders = [str(path) for path in sorted(Path("/").glob(POSTGRES_FOLDERS[1:]), reverse=True)]
    found = shutil.which(name, path=os.pathsep.join([*folders, os.environ.get("PATH", "")]))
    if found is None:
        raise Missing(f"{name} is not installed; install the packages postgresql and redis-server")
    return found


def _as_postgres() -> Sequence[str]:
    if os.getuid() != 0:
        return ()
    return ("setpriv", f"--reuid={POSTGRES_USER}", f"--regid={POSTGRES_USER}", "--clear-groups")


def _start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _kill(running: subprocess.Popen[bytes] | None) -> None:
    if running is None or running.poll() is not None:
        return
    # The group is the one that start_new_session made for it.
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()


def _until(answers: Callable[[], bool], name: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not answers():
        assert time.monotonic() < deadline, f"{name} did not start"
        time.sleep(0.02)
