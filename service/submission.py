"""The body of ``POST /unlearn``, in either form, as one submission."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final, TypeVar

from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from api_schemas.base import Input
from api_schemas.problems import FieldProblem
from api_schemas.requests import (
    MAX_PROBE_SAMPLES,
    MAX_SAMPLES,
    MAX_TARGETS,
    UnlearnRequest,
    UnlearnRequestWithImages,
)
from service import counts, errors, fields

JSON: Final = "application/json"
MULTIPART: Final = "multipart/form-data"
REQUEST_PART: Final = "request"
SAMPLE_PARTS: Final = ("samples", "probe_samples")
MAX_REQUEST_PART_BYTES: Final = 2**20
#: Far above what is allowed, so that the count is answered as a count.
_MAX_PARTS: Final = 2 * MAX_TARGETS * (MAX_SAMPLES + MAX_PROBE_SAMPLES)
_CHUNK_BYTES: Final = 2**18

_Schema = TypeVar("_Schema", bound=Input)


@dataclass(frozen=True, slots=True)
class Submission:
    """What a caller asks for. The files are as they came: not one has been looked into."""

    request: UnlearnRequest
    samples: Sequence[BinaryIO]
    probe_samples: Sequence[BinaryIO]

    def fingerprint(self) -> str:
        """A digest of the request's fields and of each file: equal in both forms of the body."""
        content = {
            "request": self.request.model_dump(mode="json"),
            "samples": [_sha256(file) for file in self.samples],
            "probe_samples": [_sha256(file) for file in self.probe_samples],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


async def read_body(request: Request) -> AsyncIterator[bytes | FormData]:
    """The body, read but not parsed: that is for the thread pool. Files are closed afterwards.

    Raises ``UnsupportedMediaType``, ``MalformedMultipart``, ``BodyTooLarge``,
    ``StorageUnavailable``.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    encoded = request.headers.get("content-encoding", "identity").strip().lower() != "identity"
    if kind not in {JSON, MULTIPART} or encoded:
        raise errors.UnsupportedMediaType(headers={"accept": f"{MULTIPART}, {JSON}"})
    if kind == JSON:
        yield await request.body()
        return
    try:
        form = await request.form(
            max_files=_MAX_PARTS, max_fields=_MAX_PARTS, max_part_size=MAX_REQUEST_PART_BYTES
        )
    except HTTPException:
        raise errors.MalformedMultipart from None
    except OSError as exc:
        # Large files are put on the disk while they come in.
        raise errors.StorageUnavailable from exc
    try:
        yield form
    finally:
        await form.close()


def parse(body: bytes | FormData) -> Submission:
    """The submission in this body, right in every field and in the number of its pictures.

    Raises ``MalformedJson``, ``InvalidRequest``, ``UnknownMethod``, ``InvalidSamples``.
    """
    submission = _from_form(body) if isinstance(body, FormData) else _from_json(body)
    counts.check(submission.request, len(submission.samples), len(submission.probe_samples))
    return submission


def _from_json(text: bytes) -> Submission:
    return with_images(validated(lambda: UnlearnRequestWithImages.model_validate_json(text)))


def with_images(whole: UnlearnRequestWithImages) -> Submission:
    """The request and its pictures as one submission, whose pictures are not counted yet."""
    return Submission(
        request=whole.request(),
        samples=[io.BytesIO(sample) for sample in whole.samples],
        probe_samples=[io.BytesIO(sample) for sample in whole.probe_samples],
    )


def _from_form(form: FormData) -> Submission:
    wrong: list[FieldProblem] = []
    texts: list[bytes] = []
    files: dict[str, list[BinaryIO]] = {name: [] for name in SAMPLE_PARTS}
    for name, part in form.multi_items():
        if name == REQUEST_PART:
            texts.append(_text(part))
        elif name not in files:
            wrong.append(_part_problem(fields.pointer([name]), "extra_forbidden"))
        elif isinstance(part, UploadFile):
            files[name].append(part.file)
        else:
            wrong.append(_part_problem(f"/{name}", "not_a_file"))
    if len(texts) != 1:
        wrong.append(_part_problem("/request", "repeated" if texts else "missing"))
    if wrong:
        raise errors.InvalidRequest(wrong[: fields.MAX_PROBLEMS])
    request = validated(lambda: UnlearnRequest.model_validate_json(texts[0]))
    return Submission(request=request, **files)


_PART_DETAILS: Final[dict[str, str]] = {
    "extra_forbidden": "Unknown part; the parts are request, samples and probe_samples.",
    "not_a_file": "Send each picture as a file part, with a file name.",
    "missing": "The part 'request' is required: the request's fields as JSON.",
    "repeated": "Send the part 'request' once.",
}


def _part_problem(pointer: str, code: str) -> FieldProblem:
    return FieldProblem(pointer=pointer, code=code, detail=_PART_DETAILS[code])


def _text(part: UploadFile | str) -> bytes:
    if isinstance(part, str):
        return part.encode()
    text = part.file.read(MAX_REQUEST_PART_BYTES + 1)
    if len(text) > MAX_REQUEST_PART_BYTES:
        raise errors.MalformedMultipart
    return text


def validated(read: Callable[[], _Schema]) -> _Schema:
    """What ``read`` makes of a body, its complaints as ours, which quote nothing.

    Raises ``MalformedJson``, ``InvalidRequest``, ``UnknownMethod``.
    """
    try:
        return read()
    except ValidationError as exc:
        wrong = fields.from_body(exc)
    # Outside of the handler, so that the original, which quotes the input, is not chained.
    codes = {problem.code for problem in wrong}
    if "json_invalid" in codes:
        raise errors.MalformedJson
    if codes == {"union_tag_invalid"}:
        raise errors.UnknownMethod(wrong)
    raise errors.InvalidRequest(wrong)
