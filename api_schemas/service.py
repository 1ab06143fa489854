"""The service's own condition."""

from __future__ import annotations

from typing import Literal

from api_schemas.base import Output


class Health(Output):
    """The process answers."""

    status: Literal["ok"]


class Readiness(Output):
    """``degraded``: requests are accepted and kept, but the broker does not answer."""

    status: Literal["ready", "degraded", "not_ready"]
    checks: dict[str, Literal["ok", "failed"]]


class Version(Output):
    """What runs here."""

    name: str
    version: str
    patch_format: int
