"""The service's processes on one machine: start, wait until ready, watch, stop."""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cli.failures import Refused, Unready
from cli.options import API_KEY_VARIABLE

if TYPE_CHECKING:
    from registry.settings import Settings

API: Final = "api"
READY_SECONDS: Final = 60.0
#: A worker that puts its job back needs about five. One that is killed loses its lease, and the
#: job runs again elsewhere: waiting longer would gain nothing.
STOP_SECONDS: Final = 10.0
TAIL_LINES: Final = 20
_POLL_SECONDS: Final = 0.2
#: A worker that dies is started again after 1, 2, 4 ... seconds; one that lived a minute, after 1.
_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 30.0
_LIVED_SECONDS: Final = 60.0


class Process:
    """One process of ours in its own group, with its output in a file."""

    def __init__(self, name: str, module: str, log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        self._module = module
        self._environment = dict(environment)
        self._running: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._deaths = 0

    def start(self) -> None:
        """Start it. ``-P``: a folder called `service` where the user stands is not ours."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(
                [sys.executable, "-P", "-m", self._module],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us; we stop it in order
            )
        self._started = time.monotonic()

    @property
    def pid(self) -> int:
        """Its process id; raises AssertionError before the start."""
        assert self._running is not None
        return self._running.pid

    def exit_code(self) -> int | None:
        """How it ended, or None while it runs."""
        return None if self._running is None else self._running.poll()

    def pause_seconds(self) -> float:
        """How long to wait before starting it again; longer the more often it dies young."""
        lived = time.monotonic() - self._started
        self._deaths = 1 if lived > _LIVED_SECONDS else self._deaths + 1
        return min(math.ldexp(_FIRST_PAUSE_SECONDS, self._deaths - 1), _LONGEST_PAUSE_SECONDS)

    def ask_to_stop(self) -> None:
        """SIGTERM to this very process."""
        if self._running is not None and self._running.poll() is None:
            self._running.send_signal(signal.SIGTERM)

    def stop(self, deadline: float) -> None:
        """Wait until the deadline (monotonic seconds); then end its whole group."""
        if self._running is None:
            return
        try:
            self._running.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._running.send_signal(signal.SIGKILL)
            self._running.wait()
        with suppress(ProcessLookupError):
            # Its children are in the group that start_new_session made: nobody else's.
            os.killpg(self._running.pid, signal.SIGKILL)

    def tail(self) -> str:
        """The last lines of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-TAIL_LINES:])


class Stack:
    """The HTTP front and workers. A context manager: on the way out everything is stopped."""

    def __init__(
        self, settings: Settings, *, workers: int = 1, say: Callable[[str], None] = print
    ) -> None:
        self._say = say
        self.settings = settings
        self.url = f"http://{_reachable(settings.host)}:{settings.port}"
        logs = settings.data_folder / "logs"
        environment = environment_for(settings)
        self.api = Process(API, "service", logs / "api.log", environment)
        self.workers = [
            Process(
                f"worker {n}", "worker", logs / f"worker-{n}.log", worker_environment(settings, n)
            )
            for n in range(1, workers + 1)
        ]

    def __enter__(self) -> Stack:
        check_port(self.settings.host, self.settings.port)
        try:
            for process in self._all():
                process.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_ready(self, stopping: threading.Event) -> None:
        """Return once the service is ready, or is told to stop. Raises Unready with the log."""
        from client import Client
        from client.errors import ClientError

        deadline = time.monotonic() + READY_SECONDS
        with Client(self.url, timeout=5.0) as client:
            while not stopping.wait(_POLL_SECONDS):
                if self.api.exit_code() is not None:
                    raise Unready(f"the service ended while it started:\n{self.api.tail()}")
                with suppress(ClientError):
                    if client.readyz().status == "ready":
                        return
                if time.monotonic() > deadline:
                    raise Unready(f"not ready after {READY_SECONDS:.0f} s:\n{self.api.tail()}")

    def watch(self, stopping: threading.Event) -> None:
        """Keep workers alive until told to stop. Raises Unready if the HTTP front dies."""
        due: dict[str, float] = {}
        while not stopping.wait(_POLL_SECONDS):
            if (code := self.api.exit_code()) is not None:
                raise Unready(f"the service ended with code {code}:\n{self.api.tail()}")
            for worker in self.workers:
                if worker.exit_code() is not None:
                    self._revive(worker, due)

    def stop(self) -> None:
        """Stop everything we started, by process id, the workers first. Repeatable."""
        deadline = time.monotonic() + STOP_SECONDS
        for process in self._all():
            process.ask_to_stop()
        for process in self._all():
            process.stop(deadline)

    def _all(self) -> Sequence[Process]:
        return [*self.workers, self.api]

    def _revive(self, worker: Process, due: dict[str, float]) -> None:
        if worker.name not in due:
            pause = worker.pause_seconds()
            due[worker.name] = time.monotonic() + pause
            self._say(
                f"{worker.name} ended with code {worker.exit_code()}, "
                f"starting it again in {pause:.0f} s:\n{worker.tail()}"
            )
        elif time.monotonic() >= due[worker.name]:
            del due[worker.name]
            worker.start()


def environment_for(settings: Settings) -> dict[str, str]:
    """The variables that make a child process agree with these settings."""
    given = {
        "RAZOR_DATA_FOLDER": str(settings.data_folder),
        "RAZOR_HOST": settings.host,
        "RAZOR_PORT": str(settings.port),
    }
    for name in ("database_url", "broker_url", "blobs_url", "key_file"):
        if (value := getattr(settings, name)) is not None:
            given[f"RAZOR_{name.upper()}"] = str(value)
    # Run from a source tree, our packages are found through this tree and through nothing else.
    source = str(Path(__file__).resolve().parent.parent)
    paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
    # Neither front nor worker calls anybody: the operator's own key is none of their business.
    ours = {name: value for name, value in os.environ.items() if name != API_KEY_VARIABLE}
    return {**ours, **given, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def worker_environment(settings: Settings, number: int) -> dict[str, str]:
    """The same for worker 1, 2, ...: each has its figures on the next port, if any has."""
    found = environment_for(settings)
    if settings.worker_metrics_port:
        found["RAZOR_WORKER_METRICS_PORT"] = str(settings.worker_metrics_port + number - 1)
    return found


def check_port(host: str, port: int) -> None:
    """Nobody listens there yet; else Refused."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Refused(
                f"cannot listen on {host}:{port} ({error.strerror}); choose another with --port"
            ) from error


def free_port() -> int:
    """A port that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in ("", "0.0.0.0") else host
