from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The client is tested against the real front, so it borrows the world that the front's tests use.
sys.path.insert(0, str(Path(__file__).parents[1] / "service"))

from front_world import World
from live_front import Live, live

from client import Client


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Live]:
    with live(tmp_path) as running:
        yield running


@pytest.fixture
def front(server: Live) -> World:
    return server.world


@pytest.fixture
def service(server: Live) -> Iterator[Client]:
    with Client(server.url, timeout=20, api_key=server.key) as made:
        yield made
