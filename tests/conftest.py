"""What every test may use: the shipped reference, loaded once, and a retain set drawn once."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.s3_server import S3Server

os.environ["HF_HUB_OFFLINE"] = "1"
# Tests share their cores with others, and threads that wait for each other cost far more than they
# bring on a model this small. Processes that a test starts inherit it.
os.environ["OMP_NUM_THREADS"] = "1"

#: Drawing seeds of the tests: away from training's, and apart from each other.
SAMPLE_SEED = 5_000_000
UNSEEN_SEED = 6_000_000
RETAIN_SEED = 700
#: Files that take minutes. Processes that share the tests begin with them: the one that came to
#: such a file last would finish it alone.
LONG = (
    "test_whole_path.py",
    "test_unlearn.py",
    "test_worker_runs.py",
    "test_diffusion.py",
    "test_probes.py",
    "test_methods.py",
    "test_bench_runs.py",
    "test_reference_vlm.py",
    "test_reference_diffusion.py",
    "test_vlm.py",
    "test_speed_generators.py",
    "test_speed.py",
    "test_painted_attacks.py",
    "test_diffusion_kinds.py",
    "test_reference.py",
    "test_hf_clip.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; otherwise everything stays in its order."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(scope="session")
def draw_png() -> Callable[[str, int], bytes]:
    """One drawing as PNG bytes, by name and drawing seed."""
    from razor.reference import drawings

    def draw(name: str, seed: int) -> bytes:
        stream = io.BytesIO()
        drawings.draw(name, seed).image.save(stream, "PNG")
        return stream.getvalue()

    return draw


@pytest.fixture(scope="session")
def retain_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen drawings of every reference name, with labels."""
    from razor.reference import folders, people

    folder = tmp_path_factory.mktemp("retain") / "drawings"
    folders.write_folder(folder, list(people.NAMES), 16, RETAIN_SEED)
    return folder


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server that speaks S3, one for all tests of this process: each takes buckets of its own."""
    from tests.s3_server import s3_server

    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server
