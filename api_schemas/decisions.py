"""What people decide about a job or a version, and what comes of it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, Field

from api_schemas.base import Input, Output
from api_schemas.reasons import ApprovalReason, DeclineReason, ExtensionReason, RevocationReason


class Approval(Input):
    """The body of ``POST /jobs/{id}/approve``; it may be left out."""

    reason: ApprovalReason | None = None


class Decline(Input):
    """The body of ``POST /jobs/{id}/decline``; it may be left out."""

    reason: DeclineReason | None = None


class Extension(Input):
    """The body of ``POST /jobs/{id}/extend``."""

    reason: ExtensionReason
    until: AwareDatetime | None = Field(
        default=None, description="The new deadline; the latest that the law allows when left out."
    )


class Revocation(Input):
    """The body of ``POST /models/{id}/versions/{n}/revoke``."""

    reason: RevocationReason


class ApprovalView(Output):
    """Where a job that needs somebody's approval stands: ``decision`` is None while it waits."""

    decision: Literal["approved", "declined"] | None
    reason: str | None
    decided_at: datetime | None


class Affected(Output):
    """A later version that went with a revoked one, because its patch was made on those weights.

    ``state`` is ``queued`` when its request runs again as the job ``rerun``; ``post_again`` when
    its pictures are gone, so that whoever asked must post the request anew: until then the model
    knows that target. Ids are None where the job is another tenant's.
    """

    version: int
    job_id: str | None
    state: Literal["queued", "post_again"]
    rerun: str | None


class Revoked(Output):
    """What a revocation came to: the model's latest version now, and what went with the revoked."""

    model: str
    version: int
    reason: RevocationReason
    revoked_at: datetime
    latest_version: int
    affected: list[Affected]
