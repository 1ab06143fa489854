from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from compose_files import DOCKER


@pytest.fixture(scope="session")
def made_secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of new secrets, as an operator makes it."""
    folder = tmp_path_factory.mktemp("secrets") / "secrets"
    subprocess.run([DOCKER / "make-secrets.sh", folder], check=True, capture_output=True)
    return folder
