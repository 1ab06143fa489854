"""Unlearning methods and their hyperparameters: one frozen class each, told apart by ``method``.

The same classes serve HTTP validation, the OpenAPI document and the method itself, so a default
is written once. Where a default is our choice because the paper leaves it open, the field says so.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from api_schemas.base import Input, Output
from api_schemas.families import Family


class Razor(Input):
    """RAZOR (arXiv 2603.14819): ratio-aware choice of layers and heads, three-term update."""

    families: ClassVar[frozenset[Family]] = frozenset({Family.CLIP})
    summary: ClassVar[str] = "Scores layers and heads by forget/retain gradients, edits only those."

    method: Literal["razor"] = "razor"
    tau: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        description="A unit is chosen when its score exceeds tau x the largest score "
        "(open in the paper: relative to the largest is our choice).",
    )
    alpha: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Weight of the alignment factor (1 - cos(g_forget, g_retain))^alpha; "
        "0 gives SLUG's importance. Open in the paper.",
    )
    rho: float = Field(
        default=1.0, gt=0, le=1, description="Ratio of forgetting to retaining in the update."
    )
    lambda_forget: float = Field(default=1.0, ge=0, le=100, description="Open in the paper.")
    lambda_mismatch: float = Field(
        default=100.0,
        ge=0,
        le=1e5,
        description="Open in the paper. Large, for squared drifts of cosines are small.",
    )
    eps: float = Field(
        default=1e-8, gt=0, le=1e-2, description="Added to the weight norm. Open in the paper."
    )
    max_units: int = Field(
        default=4, ge=1, le=64, description="Cap on the units chosen at once (our choice)."
    )
    one_tower: bool = Field(
        default=True,
        description="Edit units of one tower only: that of the best score, or the other where that "
        "one does not suffice (our choice: with few pictures, edits of both towers fit those "
        "pictures rather than the concept).",
    )
    heads: bool = Field(default=True, description="Score attention heads beside whole matrices.")
    max_step_ratio: float = Field(
        default=0.5,
        gt=0,
        le=10,
        description="Longest step of one unit, relative to the norm of its weights (our choice).",
    )
    search_evaluations: int = Field(
        default=6, ge=2, le=32, description="Evaluations of one step search (our choice)."
    )
    step_share: float = Field(
        default=0.125,
        gt=0,
        le=1,
        description="Length of one update as a share of the largest stable step that the search "
        "found; 1 is a single step (our choice: several short ones harm less).",
    )
    steps: int = Field(
        default=32, ge=1, le=256, description="Updates per round, terms recomputed each time."
    )
    rounds: int = Field(default=6, ge=0, le=6, description="Rounds of growth, at most 6.")
    min_gain: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="A chosen unit is edited when its own largest stable step forgets at least "
        "this share of what the best unit's does, on select pictures (our choice).",
    )
    retain_tolerance: float = Field(
        default=0.05,
        ge=0,
        le=0.5,
        description="How much the mean risk of losing a retained select picture may rise (our "
        "choice; a risk, so that it shows before pictures are lost).",
    )
    forget_margin: float = Field(
        default=6.0,
        ge=0,
        le=20,
        description="Forgetting is reached when every fit and select picture has lost the target "
        "and the mean logit margin of the select pictures lies this many standard deviations (of "
        "pictures of one retained label) below zero. Our choice: with few pictures, an accuracy "
        "of zero alone says little.",
    )


class Slug(Input):
    """SLUG (arXiv 2407.11867): one weight matrix, one step along one cached gradient."""

    families: ClassVar[frozenset[Family]] = frozenset({Family.CLIP})
    summary: ClassVar[str] = "Edits the single layer on the importance/alignment Pareto front."

    method: Literal["slug"] = "slug"
    initial_ratio: float = Field(
        default=0.1, gt=0, le=10, description="First step, times |theta|/|g_forget|."
    )
    search_evaluations: int = Field(default=10, ge=1, le=64)


Method = Annotated[Razor | Slug, Field(discriminator="method")]

#: Every method class. A literal table: adding one is adding a line here and one in razor.catalog.
METHODS: tuple[type[Razor] | type[Slug], ...] = (Razor, Slug)


class MethodView(Output):
    """One entry of the method catalog."""

    method: str
    summary: str
    families: list[Family]
    parameters: dict[str, object]


def catalog() -> list[MethodView]:
    """Every method with the families it supports and the JSON schema of its parameters."""
    return [
        MethodView(
            method=cls.model_fields["method"].default,
            summary=cls.summary,
            families=sorted(cls.families),
            parameters=cls.model_json_schema(),
        )
        for cls in METHODS
    ]
