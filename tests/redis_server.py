"""A Redis of our own on a free port of the loopback, set up as a file says."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.stack import free_port

START_SECONDS = 20.0


def available() -> bool:
    """Whether the server is installed here."""
    return shutil.which("redis-server") is not None


@contextmanager
def redis_server(folder: Path, *options: str, tls: bool = False) -> Iterator[int]:
    """The port it answers on. ``options``: a file of settings first, if any, then what goes on top.

    With ``tls`` the options name certificates, and nothing is answered in the clear.
    """
    port = free_port()
    ports = ("--port", "0", "--tls-port", str(port)) if tls else ("--port", str(port))
    last = (*ports, "--bind", "127.0.0.1", "--dir", str(folder), "--daemonize", "no")
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen(
            ["redis-server", *options, *last], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _listens(port):
            assert process.poll() is None, (folder / "redis.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
