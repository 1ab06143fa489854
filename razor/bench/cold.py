"""A cold start, part by part: ``python -m razor.bench.cold CHECKPOINT RETAIN`` prints seconds.

Imports stand inside, for they are a part of it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def start(checkpoint: Path, retain: Path) -> dict[str, float]:
    """Seconds of a new process until a CLIP model and its retain set are ready."""
    seconds: dict[str, float] = {}
    with _timed(seconds, "import"):
        from patches import digests
        from razor.families import clip
        from razor.material import read_shelf
        from razor.reference.captions import PROMPTS
        from razor.retain import read_retain_set
    with _timed(seconds, "digest"):
        digests.checkpoint_digest(checkpoint)
    with _timed(seconds, "load"):
        family = clip.load(checkpoint)
    with _timed(seconds, "retain set"):
        read_shelf(read_retain_set(retain, list(PROMPTS)), PROMPTS, family.sizing)
    return seconds


@contextmanager
def _timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[part] = time.perf_counter() - began


if __name__ == "__main__":
    print(json.dumps(start(Path(sys.argv[1]), Path(sys.argv[2]))))
