"""Patched weights through a pipe, beside ``cat`` of the same file through the same pipe."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from api_schemas.methods import Method
from api_schemas.patches import BaseModelRef
from patches import folder
from patches.splice import PatchSource
from patches.weights import patched_weights
from razor import cost, serialize
from razor.unlearn import Run

REPEATS: Final = 5
_DRAIN: Final = ("cat",)


def beside_cat(run: Run, method: Method, family: str, checkpoint: Path) -> dict[str, Any]:
    """Seconds of both, in turn, and how much memory streaming adds. ``run`` must have edited."""
    (file,) = checkpoint.glob("*.safetensors")
    base = BaseModelRef(
        id="bench",
        family=family,
        checkpoint_digest="sha256:" + "0" * 64,
        parent=0,
        parent_patches=[],
    )
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "patch"
        manifest = serialize.write(out, base, run.changes, method, run.report, "cpu")
        source = PatchSource(manifest.tensors, out / folder.FILE_NAME)

        def ours() -> Iterable[bytes]:
            weights = patched_weights(checkpoint, [source])
            return weights.iter_range(0, weights.size)

        seconds: dict[str, list[float]] = {"ours": [], "cat": []}
        added = 0
        for _ in range(REPEATS):
            cost.reset_peak_memory()
            before = cost.peak_memory_bytes()
            seconds["ours"].append(_seconds(lambda: _pour(ours())))
            added = max(added, cost.peak_memory_bytes() - before)
            seconds["cat"].append(_seconds(lambda: _cat(file)))
    return {"bytes": file.stat().st_size, "seconds": seconds, "added_memory_bytes": added}


def _pour(chunks: Iterable[bytes]) -> None:
    with _drain() as end:
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                view = view[os.write(end, view) :]


def _cat(file: Path) -> None:
    with _drain() as end:
        subprocess.run([shutil.which("cat") or "cat", str(file)], stdout=end, check=True)


@contextmanager
def _drain() -> Iterator[int]:
    """The writing end of a pipe whose reader throws everything away."""
    with subprocess.Popen(_DRAIN, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as reader:
        assert reader.stdin is not None
        yield reader.stdin.fileno()
        reader.stdin.close()
        assert reader.wait() == 0


def _seconds(call: Callable[[], None]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
