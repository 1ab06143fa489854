"""What routes take from paths and headers.

What cannot be an id names nothing: it gets the same 404 as an id that nobody has, and the database
need not cope with NUL characters or megabytes.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from fastapi import Depends, Header, Path

from registry.errors import (
    DeliveryNotFound,
    JobNotFound,
    LineNotFound,
    ModelNotFound,
    PatchNotFound,
    VersionNotFound,
    WebhookNotFound,
)

_JOB: Final = re.compile(r"job_[0-9a-f]{32}")
_PATCH: Final = re.compile(r"pat_[0-9a-f]{32}")
_INDEX: Final = re.compile(r"\d{1,18}")
_WEBHOOK: Final = re.compile(r"whk_[0-9a-f]{32}")
_DELIVERY: Final = re.compile(r"msg_[0-9a-f]{32}")
_VERSION: Final = re.compile(r"0|[1-9][0-9]{0,8}")
_MODEL: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")

IfNoneMatch = Annotated[
    str | None, Header(description="The ETag you have: answers 304 while it is the current one.")
]
RangeHeader = Annotated[
    str | None, Header(alias="Range", description="One range, such as `bytes=1000-`.")
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Chosen by you, 1 to 255 printable ASCII characters, bare or in quotes: the "
        "same request sent again under the same key is the same job.",
    ),
]


async def _job_id(
    job_id: Annotated[str, Path(examples=["job_0123456789abcdef0123456789abcdef"])],
) -> str:
    if not _JOB.fullmatch(job_id):
        raise JobNotFound("")
    return job_id


async def _patch_id(
    patch_id: Annotated[str, Path(examples=["pat_0123456789abcdef0123456789abcdef"])],
) -> str:
    if not _PATCH.fullmatch(patch_id):
        raise PatchNotFound("")
    return patch_id


async def _model_id(model_id: Annotated[str, Path(examples=["reference-clip"])]) -> str:
    if not _MODEL.fullmatch(model_id):
        raise ModelNotFound("")
    return model_id


async def _line_index(index: Annotated[str, Path(examples=["17"])]) -> int:
    if not _INDEX.fullmatch(index):
        raise LineNotFound(-1)
    return int(index)


async def _webhook_id(
    webhook_id: Annotated[str, Path(examples=["whk_0123456789abcdef0123456789abcdef"])],
) -> str:
    if not _WEBHOOK.fullmatch(webhook_id):
        raise WebhookNotFound("")
    return webhook_id


async def _delivery_id(
    delivery_id: Annotated[str, Path(examples=["msg_0123456789abcdef0123456789abcdef"])],
) -> str:
    if not _DELIVERY.fullmatch(delivery_id):
        raise DeliveryNotFound("")
    return delivery_id


async def _version_number(number: Annotated[str, Path(examples=["1"])]) -> int:
    if not _VERSION.fullmatch(number):
        raise VersionNotFound("", 0)
    return int(number)


JobId = Annotated[str, Depends(_job_id)]
LineIndex = Annotated[int, Depends(_line_index)]
PatchId = Annotated[str, Depends(_patch_id)]
ModelId = Annotated[str, Depends(_model_id)]
WebhookId = Annotated[str, Depends(_webhook_id)]
DeliveryId = Annotated[str, Depends(_delivery_id)]
VersionNumber = Annotated[int, Depends(_version_number)]
