from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from patch_world import Edit, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Two weights files; a tensor name that both of them have."""
    rng = np.random.default_rng(0)
    return World(
        tmp_path,
        {
            "model.safetensors": {
                "proj": rng.standard_normal((6, 8)).astype(np.float16),
                "bias": rng.standard_normal(6).astype(np.float32),
                "scale": np.array(3.5),
                "empty": np.zeros((0, 3), np.float32),
            },
            "text/model.safetensors": {
                "proj": rng.standard_normal((4, 4, 4)).astype(np.float32),
                "ids": np.arange(8, dtype=np.int64),
            },
        },
    ).save()


@pytest.fixture
def edits() -> list[Edit]:
    """A part, a whole tensor, and a part of the other file's tensor of the same name."""
    return [
        Edit("model.safetensors", "proj", [(1, 3), (2, 6)], np.full((2, 4), 7, np.float16)),
        Edit("model.safetensors", "proj", [(3, 5), (0, 8)], np.full((2, 8), 9, np.float16)),
        Edit("model.safetensors", "bias", None, np.arange(6, dtype=np.float32)),
        Edit("text/model.safetensors", "proj", [(0, 4), (1, 2), (0, 4)], np.zeros((4, 1, 4))),
    ]
