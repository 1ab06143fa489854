"""The body of ``POST /unlearn``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, Base64Bytes, Field, StringConstraints

from api_schemas.base import Input
from api_schemas.concepts import Target
from api_schemas.methods import Method, Razor

MIN_SAMPLES = 3
MAX_SAMPLES = 50
MAX_PROBE_SAMPLES = 200

ModelId = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$"),
    Field(examples=["reference-clip"], description="Id of a model on the shelf, never a path."),
]
MetadataKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
MetadataValue = Annotated[str, StringConstraints(max_length=500)]


class Regulation(StrEnum):
    """The law that the request rests on. It decides the deadline."""

    GDPR = "gdpr"
    CCPA = "ccpa"
    NONE = "none"


class Thresholds(Input):
    """When the gate lets a patch pass. A missing value means: as the model's record says."""

    forget_accuracy_max: float | None = Field(
        default=None, ge=0, le=100, description="Largest M1 after the edit, in percent."
    )
    utility_drop_max: float | None = Field(
        default=None, ge=0, le=100, description="Largest fall of M4, in points."
    )
    neighbour_drop_max: float | None = Field(
        default=None, ge=0, le=100, description="Largest fall of M6, in points."
    )
    stability_min: float | None = Field(
        default=None, ge=0, le=100, description="Smallest M5, in percent."
    )
    cross_domain_drop_max: float | None = Field(
        default=None, ge=0, le=100, description="Largest fall of M7 on retained pictures, points."
    )


class Evaluation(Input):
    """How the result is judged."""

    thresholds: Thresholds = Thresholds()


class UnlearnRequest(Input):
    """Make one model forget one concept."""

    model: ModelId
    target: Target
    method: Method = Field(default_factory=Razor, description="Defaults suit every target.")
    evaluation: Evaluation = Evaluation()
    priority: int = Field(default=0, ge=-10, le=10, description="Larger goes first.")
    due_at: AwareDatetime | None = Field(
        default=None, description="When it must be done; earlier deadlines go first."
    )
    regulation: Regulation = Regulation.NONE
    subject_request_id: (
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,128}$")] | None
    ) = Field(default=None, description="The id under which your own system knows the request.")
    seed: int = Field(default=0, ge=0, lt=2**31)
    dry_run: bool = Field(
        default=False, description="Pre-flight and scores only: nothing is edited, no patch."
    )
    metadata: dict[MetadataKey, MetadataValue] = Field(default_factory=dict, max_length=32)


class UnlearnRequestWithImages(UnlearnRequest):
    """The JSON form of the call: the same request, with its pictures in base64."""

    samples: tuple[Base64Bytes, ...] = Field(
        description=f"{MIN_SAMPLES} to {MAX_SAMPLES} pictures of the target, JPEG, PNG or WEBP."
    )
    probe_samples: tuple[Base64Bytes, ...] = Field(
        default=(), description="Further pictures of the target, used for measuring only."
    )

    def request(self) -> UnlearnRequest:
        """The request without its pictures."""
        return UnlearnRequest.model_validate(self.model_dump(exclude={"samples", "probe_samples"}))
