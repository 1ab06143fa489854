from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from evidence_world import Made, make


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One evidence folder for all tests, to be left as it is."""
    return make(tmp_path_factory.mktemp("pristine"))


@pytest.fixture
def folder(pristine: Made, tmp_path: Path) -> Path:
    """A copy of it to tamper with."""
    return Path(shutil.copytree(pristine.folder, tmp_path / "evidence"))
