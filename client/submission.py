"""A request as it goes out: a part with the fields, one for each picture, and a key."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from pathlib import Path

from api_schemas.requests import UnlearnRequest

#: The name of the part; its file name, content and type.
Part = tuple[str, tuple[str | None, bytes, str]]


def parts(
    request: UnlearnRequest,
    samples: Sequence[bytes | Path],
    probe_samples: Sequence[bytes | Path],
) -> list[Part]:
    """The body's parts in order. Pictures go by number: their own file names are not sent.

    Raises ``OSError`` for a path that cannot be read.
    """
    found: list[Part] = [("request", (None, as_set(request), "application/json"))]
    for field, pictures in (("samples", samples), ("probe_samples", probe_samples)):
        for number, picture in enumerate(pictures):
            data = picture.read_bytes() if isinstance(picture, Path) else picture
            found.append((field, (f"{field}-{number}", data, "application/octet-stream")))
    return found


def idempotent(key: str | None) -> dict[str, str]:
    """The header by which the service knows a repetition; of this call alone without a key.

    Quoted, as RFC 8941 writes strings: so any printable key arrives as it is.
    """
    key = uuid.uuid4().hex if key is None else key
    quoted = key.replace("\\", "\\\\").replace('"', '\\"')
    return {"Idempotency-Key": f'"{quoted}"'}


def as_set(request: UnlearnRequest) -> bytes:
    """The request as JSON without what was left at its default.

    What is not sent gets the default of the model's family, which a field's own need not be.
    """
    fields = request.model_dump(mode="json", exclude_unset=True)
    if "method" in fields:
        fields["method"]["method"] = request.method.method
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
