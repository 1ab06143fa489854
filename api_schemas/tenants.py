"""Tenants: who shares one installation without seeing each other, and what each may use of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt, StringConstraints

from api_schemas.base import Input

#: The tenant that a new installation begins with.
DEFAULT_TENANT = "default"

TenantId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


class TenantSettings(Input):
    """What an operator settles for one tenant. A limit of None is no limit."""

    approval_required: bool = Field(
        default=False, description="A job waits until somebody else than its requester approves."
    )
    retention_days: NonNegativeInt | None = Field(
        default=None,
        description="Days for which names and pictures are kept, encrypted, after a job's end. "
        "0: they are deleted when the job ends. None: as the installation settles it, else so too.",
    )
    max_queued_jobs: NonNegativeInt | None = Field(
        default=None, description="Jobs that may wait at once."
    )
    max_jobs_per_day: NonNegativeInt | None = Field(
        default=None, description="Jobs accepted within any 24 hours."
    )
    requests_per_minute: PositiveInt | None = Field(
        default=None, description="Requests of each key, over any length of time."
    )
