"""Tensors that outlive a process: what depends on a model version and its retain set alone.

A cache and nothing more: the folder may be deleted at any time. Files are named by the digest of
what they are of, so a wrong one is never found; values come back to the bit.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

log = logging.getLogger(__name__)

Value = Tensor | dict[str, Tensor]

#: What nobody asked for in so long goes, whether there is room or not.
UNUSED_SECONDS: Final = 30 * 24 * 3600.0
_SUFFIX: Final = ".safetensors"
_ALONE: Final = ""  # the name of a tensor that stands alone


@dataclass(frozen=True)
class Kept:
    """A folder of at most ``most_bytes``; what was not used for longest goes first."""

    folder: Path
    most_bytes: int
    device: str = "cpu"

    def get(self, named: str) -> Value | None:
        """What was put under this name, on the device; None where there is nothing whole."""
        path = self._path(named)
        try:
            found = load_file(path, self.device)
            os.utime(path)
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError) as error:
            log.warning("a kept file cannot be read and is made again: %s", type(error).__name__)
            return None
        return found[_ALONE] if found.keys() == {_ALONE} else found

    def put(self, named: str, value: Value) -> None:
        """Keeps the value if there is room; a disk that takes nothing is no error."""
        tensors = value if isinstance(value, dict) else {_ALONE: value}
        if sum(tensor.nbytes for tensor in tensors.values()) > self.most_bytes:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write(self._path(named), tensors)
            self._prune()
        except OSError as error:
            log.warning("nothing was kept: %s", type(error).__name__)

    def _write(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        """Whole or not at all, after a loss of power too: a half would be believed."""
        with tempfile.TemporaryDirectory(dir=self.folder) as temporary:
            partial = Path(temporary) / path.name
            save_file({name: t.detach().contiguous() for name, t in tensors.items()}, partial)
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.rename(path)

    def _prune(self) -> None:
        """What is too much, or too old, is gone."""
        files = sorted(
            ((path, path.stat()) for path in self.folder.glob(f"*{_SUFFIX}")),
            key=lambda each: -each[1].st_mtime,
        )
        room, oldest = self.most_bytes, time.time() - UNUSED_SECONDS
        for path, found in files:
            room -= found.st_size
            if room < 0 or found.st_mtime < oldest:
                path.unlink(missing_ok=True)

    def _path(self, named: str) -> Path:
        return self.folder / (hashlib.sha256(named.encode()).hexdigest() + _SUFFIX)


def is_value(found: object) -> bool:
    """Whether it is of a kind that can be kept."""
    if isinstance(found, Tensor):
        return True
    return (
        isinstance(found, dict)
        and bool(found)
        and all(isinstance(t, Tensor) for t in found.values())
    )


def computed_by() -> str:
    """What a value depends on besides its inputs: other libraries may round in other ways."""
    ours = metadata.version("razor-unlearning")
    return f"razor {ours}, torch {torch.__version__}, {torch.get_num_threads()} threads"
