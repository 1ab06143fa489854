"""The erasure certificate: what one finished request came to, without name or picture."""

from __future__ import annotations

from pydantic import Field, JsonValue

from api_schemas.base import Output
from api_schemas.families import Family
from api_schemas.reports import EditedUnit, Gate, MetricResult

PREDICATE_TYPE = "urn:x-razor:erasure-certificate:v1"


class CertifiedRequest(Output):
    """The request and its legal clock. Times are UTC, with six decimals."""

    job_id: str
    regulation: str
    received_at: str
    completed_at: str
    due_at: str | None
    in_time: bool | None = Field(description="Completed when due or before; null without a date.")
    targets: int = Field(description="How many concepts it names.")
    subject: str | None = Field(description="Keyed hash of whom it is about; null if none is kept.")


class CertifiedModel(Output):
    """Version ``parent`` of the model became ``version`` by this patch."""

    id: str
    family: Family
    checkpoint_digest: str = Field(description="Of the weights as registered, version 0.")
    parent: int
    parent_patches: list[str] = Field(description="sha256 of each earlier patch file, in order.")
    version: int


class CertifiedPatch(Output):
    """The patch, by its digests."""

    id: str
    sha256: str
    bytes: int
    manifest_sha256: str
    edited: list[EditedUnit]


class CertifiedRun(Output):
    """How it was made: the method with every parameter, and what the run depended on."""

    method: dict[str, JsonValue]
    seed: int
    libraries: dict[str, str]
    device: str
    dtype: str
    threads: int


class CertifiedData(Output):
    """How many pictures played which part."""

    target_fit: int
    target_select: int
    target_test: int
    retain_fit: int
    retain_select: int
    retain_test: int


class CertifiedMeasurement(Output):
    """One figure with n and interval, and the threshold it was held against, if any.

    ``version`` is set where an earlier target was measured again.
    """

    metric: MetricResult
    rule: str | None
    threshold: float | None
    version: int | None


class ErasureCertificate(Output):
    """The predicate of the certificate's in-toto statement."""

    issued_at: str
    request: CertifiedRequest
    model: CertifiedModel
    patch: CertifiedPatch
    run: CertifiedRun
    data: CertifiedData
    measurements: list[CertifiedMeasurement]
    attacks: list[CertifiedMeasurement] = Field(description="Can the erased be brought back?")
    earlier: list[CertifiedMeasurement] = Field(description="Earlier targets, measured again.")
    gate: Gate
    limits: list[str] = Field(description="What was not measured and what this does not say.")
