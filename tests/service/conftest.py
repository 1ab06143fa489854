from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from front_world import World, world

from service.decoders import Decoders


@pytest.fixture
def front(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.fixture
def http(front: World) -> TestClient:
    assert front.http is not None
    return front.http


@pytest.fixture(scope="session")
def decoders() -> Iterator[Decoders]:
    """Enough memory for every small picture; one process for all tests that share it."""
    made = Decoders(256 * 2**20)
    yield made
    made.close()
