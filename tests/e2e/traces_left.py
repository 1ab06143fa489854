"""Whether a service that has ended its jobs still holds anything of them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from registry.blobs import BlobStore
from service import intake
from service.decoders import Decoders
from tests import traces

LIMITS = intake.Limits(bytes=2**20, pixels=2**20, side=2**10)


def nothing_is_left(
    data_folder: Path,
    database: str,
    names: Iterable[str],
    sent: Sequence[bytes],
    blobs: BlobStore | None = None,
) -> None:
    """No file, log, message, row or blob, also elsewhere, holds one of these names or pictures."""
    held = traces.everything(data_folder, database)
    for digest in blobs.digests() if blobs is not None else ():
        with blobs.open(digest) as file:
            held[f"blob {digest}"] = file.read()
    assert any(place.startswith("row") and "jobs" in place for place in held)
    assert any(place.endswith(".log") for place in held)
    for name in names:
        assert traces.of_name(name, held) == []
    decoders = Decoders(memory_bytes=2**28)
    streams = [io.BytesIO(picture) for picture in sent]
    with intake.clean_copies({"samples": streams}, LIMITS, decoders) as copies:
        as_stored = [path.read_bytes() for path in copies["samples"]]
    decoders.close()
    assert traces.of_pictures([*sent, *as_stored], held) == []
    # The control: the same search finds both where they are put.
    planted = {"name": name.encode("utf-16-le"), "picture": b"x" + as_stored[0]}
    assert traces.of_name(name, held | planted) == ["name"]
    assert traces.of_pictures([*sent, *as_stored], held | planted) == ["picture"]
