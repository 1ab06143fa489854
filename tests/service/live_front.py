"""A front behind a real server on a free port of the loopback, in a thread."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from front_world import World, make_world, register

from service.connections import TimedProtocol

START_SECONDS = 20.0


@dataclass
class Live:
    """A running server and the world behind it."""

    world: World
    server: uvicorn.Server
    host: str
    port: int
    thread: threading.Thread

    @property
    def key(self) -> str:
        return self.world.key

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def stop(self) -> None:
        self.world.parts.stopping.set()
        self.server.should_exit = True
        self.thread.join(START_SECONDS)
        assert not self.thread.is_alive()


@contextmanager
def live(root: Path, *, port: int | None = None, **settings: Any) -> Iterator[Live]:
    running = start(root, port=port, **settings)
    try:
        yield running
    finally:
        running.stop()


def start(root: Path, *, port: int | None = None, **settings: Any) -> Live:
    """Serve the world in ``root``; a second one on the same folder and port is a restart."""
    made = make_world(root, **settings)
    port = port or free_port()
    config = uvicorn.Config(
        made.app,
        port=port,
        http=TimedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + START_SECONDS
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < until
        time.sleep(0.01)
    register(made)
    return Live(world=made, server=server, host="127.0.0.1", port=port, thread=thread)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
