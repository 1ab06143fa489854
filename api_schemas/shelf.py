"""A model on the shelf: the record an operator registers, and what a requester sees of it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from api_schemas.base import Input, Output
from api_schemas.families import Family
from api_schemas.reasons import RevocationReason
from api_schemas.requests import ModelId

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
PromptTemplate = Annotated[str, StringConstraints(pattern=r"^[^{}]*\{\}[^{}]*$", max_length=200)]
Question = Annotated[str, StringConstraints(pattern=r"^[^{}]+$", max_length=200)]
#: The domain of questions whose answers are descriptions: it has no labels.
DESCRIPTION = "description"
#: The `name` of whoever has none: a right answer names nobody.
UNNAMED = "somebody"


class GateThresholds(Input):
    """The shelf's own thresholds, in percent and points; a request may set its own."""

    forget_accuracy_max: float = Field(default=5.0, ge=0, le=100)
    utility_drop_max: float = Field(default=2.0, ge=0, le=100)
    neighbour_drop_max: float = Field(default=10.0, ge=0, le=100)
    stability_min: float = Field(default=90.0, ge=0, le=100)
    cross_domain_drop_max: float = Field(default=5.0, ge=0, le=100)


class RetainSet(Input):
    """What the model must keep: a folder of pictures with an ``index.csv``.

    Columns: ``path``, ``name``, ``caption``; any further column named in ``prompts`` is a domain
    of labels (scene, style, ...), measured zero-shot with that domain's templates. People whom
    nobody has named are called ``somebody``.
    """

    folder: str


class ModelRecord(Input):
    """One model, as its TOML record says it. Relative paths are relative to the record's folder."""

    id: ModelId
    family: Family
    checkpoint: str
    digest: Digest | None = Field(
        default=None, description="Of the checkpoint folder; computed and kept when left out."
    )
    retain: RetainSet
    judge: str | None = Field(
        default=None,
        description="Folder of what names generated pictures: a CLIP model, or the classifier of "
        "a reference pipeline. Needed for family diffusion; never trained on generated pictures.",
    )
    prompts: dict[str, tuple[PromptTemplate, ...]] = Field(
        default={"name": ("a picture of {}",)},
        description="Zero-shot templates per domain; 'name' and the columns of index.csv.",
    )
    questions: dict[str, tuple[Question, ...]] = Field(
        default={"name": ("Who is this?", "Who is in the picture?", "Name this person.")},
        description="Only for family vlm: the ways to ask for a domain's label; 'name' and columns "
        f"of index.csv, and '{DESCRIPTION}' for a description. The last third of each is asked in "
        "the test alone.",
    )
    thresholds: GateThresholds = GateThresholds()
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def words(self) -> dict[str, tuple[str, ...]]:
        """What the model is asked per domain: questions, or prompts with a place for the label."""
        asked = self.questions if self.family is Family.VLM else self.prompts
        return {domain: tuple(texts) for domain, texts in asked.items()}

    def domains(self) -> list[str]:
        """The domains that have labels: 'name', and columns of ``index.csv``."""
        return [domain for domain in self.words() if domain != DESCRIPTION]


class ModelView(Output):
    """A model that can be edited."""

    id: str
    family: Family
    digest: str
    domains: list[str]
    methods: list[str]
    thresholds: GateThresholds
    latest_version: int
    created_at: datetime


class VersionView(Output):
    """One version of a model: the base (0), or its parent plus one patch.

    A revoked version stays in this list and is no part of the line any more: neither it nor what
    was made on it. ``revoked_with`` is the version whose revocation took this one along.
    Numbers are never used again.
    """

    model: str
    number: int
    parent: int | None
    patch_id: str | None
    job_id: str | None
    created_at: datetime
    revoked_at: datetime | None
    revoked_reason: RevocationReason | None
    revoked_with: int | None


class VersionList(Output):
    """Every version, oldest first; those that are not revoked are the line."""

    items: list[VersionView]


class ModelList(Output):
    """Every model on the shelf, by id."""

    items: list[ModelView]
