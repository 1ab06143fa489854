"""A cold start, part by part, in seconds: ``python -m razor.bench.cold FAMILY CHECKPOINT RETAIN``.

Imports stand inside, for they are a part of it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def start(family: str, checkpoint: Path, retain: Path) -> dict[str, float]:
    """Seconds of a new process until a model and its retain set are ready."""
    seconds: dict[str, float] = {}
    with _timed(seconds, "import"):
        from patches import digests
        from razor.bench import weighed

        weigher = weighed.of(family)
    with _timed(seconds, "digest"):
        digests.checkpoint_digest(checkpoint)
    with _timed(seconds, "load"):
        model = weigher.load(checkpoint)
    with _timed(seconds, "retain set"):
        weigher.shelf(retain, model)
    return seconds


@contextmanager
def _timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[part] = time.perf_counter() - began


if __name__ == "__main__":
    print(json.dumps(start(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))))
