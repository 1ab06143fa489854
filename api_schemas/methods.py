"""Unlearning methods and their hyperparameters: one frozen class each, told apart by ``method``.

The same classes serve HTTP validation, the OpenAPI document and the method itself, so a default
is written once. Where a default is our choice because the paper leaves it open, the field says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field

from api_schemas.base import Input, Output
from api_schemas.families import Family

#: What a tower of units may be: a CLIP model has the first two, a picture generator text and
#: denoiser, a vision-language model its vision tower ("image"), a projector and a language model.
Tower = Literal["text", "image", "denoiser", "projector", "language"]


class Razor(Input):
    """RAZOR (arXiv 2603.14819): ratio-aware choice of layers and heads, three-term update."""

    families: ClassVar[frozenset[Family]] = frozenset(Family)
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
    lambda_forget: float = Field(
        default=1.0, ge=0, le=100, description="Open in the paper; 0 leaves the term out."
    )
    lambda_retain: float = Field(
        default=1.0, ge=0, le=100, description="1 in the paper; 0 leaves the term out."
    )
    lambda_mismatch: float = Field(
        default=300.0,
        ge=0,
        le=1e5,
        description="Open in the paper; 0 leaves the term out. Large, for squared drifts of "
        "cosines are small.",
    )
    eps: float = Field(
        default=1e-8, gt=0, le=1e-2, description="Added to the weight norm. Open in the paper."
    )
    selection: bool = Field(
        default=True,
        description="Edit the units that the scores name; without it every matrix at once.",
    )
    max_units: int = Field(
        default=4, ge=1, le=64, description="Cap on the units chosen at once (our choice)."
    )
    max_share: float = Field(
        default=0.08,
        gt=0,
        le=1,
        description="Largest share of the model's weights that is edited for one target, unless "
        "nothing is selected (our choice: a patch is to stay small).",
    )
    towers: tuple[Tower, ...] = Field(
        default=("text", "image"),
        min_length=1,
        description="Towers to edit, tried in this order until one forgets (our choice: a name has "
        "one embedding that decides for every picture; the image tower must learn from few "
        "pictures what they share). Only an edit of the image tower changes picture features.",
    )
    one_tower: bool = Field(
        default=True,
        description="Edit units of one tower only; without it units of all the towers at once.",
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
    calming: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Each update that brings no better state shortens those that follow in its "
        "round by this factor (our choice; 1 = never).",
    )
    adaptive: bool = Field(
        default=False,
        description="Divide the update of every weight by the running size of its gradients, as "
        "Adam does, before it is given its length (our choice: a few matrices that carry every "
        "name are else moved along what most names share).",
    )
    steps: int = Field(
        default=32, ge=1, le=256, description="Updates per round, terms recomputed each time."
    )
    patience: int = Field(
        default=8,
        ge=1,
        le=256,
        description="Updates without a better state after which a round ends (our choice).",
    )
    rounds: int = Field(default=6, ge=0, le=6, description="Rounds of growth, at most 6.")
    anchor: Literal["name", "pictures"] = Field(
        default="name",
        description="What the forget term pushes the name away from while only the text tower is "
        "edited: from the picture that the frozen model expects of the name, or from the fit "
        "pictures. Our choice: a few pictures carry their own scene and style, and pushing away "
        "from those tells them apart from other pictures of the target.",
    )
    min_gain: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="A chosen unit is edited when its own largest stable step forgets at least "
        "this share of what the best unit's does, on select pictures (our choice).",
    )
    retain_tolerance: float = Field(
        default=0.02,
        ge=0,
        le=0.5,
        description="How much the mean risk of losing a retained select picture may rise (our "
        "choice; a risk, so that it shows before pictures are lost).",
    )
    forget_risk: float = Field(
        default=0.01,
        gt=0,
        lt=1,
        description="Forgetting is reached when every fit and select picture has lost the target "
        "and at most this share of the stand-ins is still recognised. Stand-ins are the pictures "
        "at hand, varied as retained pictures of one label vary. Our choice: with few pictures, an "
        "accuracy of zero alone says little.",
    )


class Slug(Input):
    """SLUG (arXiv 2407.11867): one weight matrix, one step along one cached gradient."""

    families: ClassVar[frozenset[Family]] = frozenset(Family)
    summary: ClassVar[str] = "Edits the single layer on the importance/alignment Pareto front."

    method: Literal["slug"] = "slug"
    initial_ratio: float = Field(
        default=0.1, gt=0, le=10, description="First step, times |theta|/|g_forget|."
    )
    search_evaluations: int = Field(
        default=10, ge=1, le=64, description="Evaluations of the step search of one unit."
    )
    layers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="How many units of the Pareto front are tried, the most important first; one "
        "is edited (1 is the published method; choosing among several is ours).",
    )
    retain_aware: bool = Field(
        default=False,
        description="Prefer the step of least regret (recognition plus harm to what is retained) "
        "over that of least forget accuracy (our choice; off is the published method).",
    )
    towers: tuple[Tower, ...] = Field(
        default=("text", "image"), min_length=1, description="Towers whose units are considered."
    )
    grouped: bool = Field(
        default=False,
        description="Take the query, key and value of a layer together, and its two feed-forward "
        "matrices, as published for picture generators.",
    )
    deepest: bool = Field(
        default=False,
        description="Try the deepest unit of the front first, as published for picture "
        "generators; else the most important.",
    )


class Ascent(Input):
    """GA, FT and GAFT: AdamW on every matrix, ascending what to forget, descending what to keep."""

    families: ClassVar[frozenset[Family]] = frozenset({Family.CLIP, Family.VLM})
    summary: ClassVar[str] = (
        "Trains every layer: away from the target (ga), on what is retained (ft), or both in turn "
        "(gaft)."
    )

    method: Literal["ga", "ft", "gaft"] = "gaft"
    learning_rate: float = Field(
        default=2e-4,
        gt=0,
        le=0.1,
        description="AdamW's; constant. The default is from trials on the reference CLIP.",
    )
    steps: int = Field(
        default=20,
        ge=1,
        le=4096,
        description="Updates at most; the best state that was read is kept.",
    )
    read_every: int = Field(
        default=2, ge=1, le=256, description="Updates between two readings of fit and select."
    )
    towers: tuple[Tower, ...] = Field(
        default=("text", "image"), min_length=1, description="Towers whose weights may learn."
    )


class Salun(Input):
    """SalUn (arXiv 2310.12508): relabel the target's pictures, train only the salient weights."""

    families: ClassVar[frozenset[Family]] = frozenset(Family)
    summary: ClassVar[str] = "Teaches the target's pictures other names, in salient weights only."

    method: Literal["salun"] = "salun"
    share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Share of the weights that learn: those of largest |grad forget|.",
    )
    lambda_retain: float = Field(
        default=1.0,
        ge=0,
        le=1e5,
        description="Weight of the retain loss beside that of the relabelled pictures (alpha in "
        "the paper).",
    )
    learning_rate: float = Field(
        default=5e-5,
        gt=0,
        le=0.1,
        description="AdamW's; constant. The default is from trials on the reference CLIP.",
    )
    steps: int = Field(
        default=20,
        ge=1,
        le=4096,
        description="Updates at most; the best state that was read is kept.",
    )
    read_every: int = Field(
        default=2, ge=1, le=256, description="Updates between two readings of fit and select."
    )
    towers: tuple[Tower, ...] = Field(
        default=("text", "image"), min_length=1, description="Towers whose weights may learn."
    )


class Ssd(Input):
    """SSD (arXiv 2308.07707): shrink the weights that matter far more to the target than to all."""

    families: ClassVar[frozenset[Family]] = frozenset({Family.CLIP})
    summary: ClassVar[str] = "Dampens the weights that matter most to the target; no training."

    method: Literal["ssd"] = "ssd"
    alpha: float = Field(
        default=45.0,
        gt=0,
        le=1e9,
        description="A weight is dampened when it matters more than alpha times as much to the "
        "target as to all data, of which the target counts for a hundredth: above 100 nothing "
        "is. The paper's 10 ruins the reference CLIP; 45 is from trials on it.",
    )
    lambda_dampening: float = Field(
        default=1.0,
        ge=0,
        le=1e3,
        description="A dampened weight is multiplied by lambda times its importance for all data "
        "over that for the target, at most by 1.",
    )
    batch_size: int = Field(
        default=8,
        ge=1,
        le=256,
        description="Pictures per batch gradient, the same for the target and for all data.",
    )


class Esd(Input):
    """ESD (arXiv 2303.07345): teach the denoiser to steer away from where the name leads."""

    families: ClassVar[frozenset[Family]] = frozenset({Family.DIFFUSION})
    summary: ClassVar[str] = "Trains the denoiser to steer away from where the name leads."

    method: Literal["esd"] = "esd"
    variant: Literal["x", "u"] = Field(
        default="x", description="Cross-attention only (x), or all other matrices (u)."
    )
    strength: float = Field(
        default=1.0, ge=0, le=20, description="How far to steer away (eta in the paper)."
    )
    learning_rate: float = Field(default=1e-4, gt=0, le=0.1, description="AdamW's; constant.")
    steps: int = Field(
        default=100,
        ge=1,
        le=4096,
        description="Updates at most; the best state that was read is kept.",
    )
    read_every: int = Field(
        default=20, ge=1, le=256, description="Updates between two readings of fit and select."
    )


class Uce(Input):
    """UCE (arXiv 2308.14761): keys and values of cross-attention, in closed form."""

    families: ClassVar[frozenset[Family]] = frozenset({Family.DIFFUSION})
    summary: ClassVar[str] = "Maps the name to other words in cross-attention; no training."

    method: Literal["uce"] = "uce"
    guide: Literal["empty", "nearest"] = Field(
        default="empty",
        description="What the name shall mean instead: nothing, or the most similar retained name.",
    )
    erase: float = Field(default=1.0, gt=0, le=1e6, description="Weight of the name (a).")
    preserve: float = Field(
        default=0.1, ge=0, le=1e6, description="Weight of each retained name (b)."
    )
    keep: float = Field(
        default=0.1, gt=0, le=1e6, description="Weight of the matrix as it was (lambda)."
    )


Method = Annotated[Razor | Slug | Ascent | Salun | Ssd | Esd | Uce, Field(discriminator="method")]

#: Every method class. A literal table: adding one is adding a line here and one in razor.catalog.
METHODS: tuple[
    type[Razor] | type[Slug] | type[Ascent] | type[Salun] | type[Ssd] | type[Esd] | type[Uce],
    ...,
] = (Razor, Slug, Ascent, Salun, Ssd, Esd, Uce)

#: Defaults that differ from those of the fields: one set per family, for every target.
DEFAULTS: Mapping[Family, Mapping[str, Mapping[str, Any]]] = {
    Family.DIFFUSION: {
        "razor": {
            "towers": ("text", "denoiser"),
            "anchor": "pictures",
            "max_share": 0.05,
            "lambda_forget": 4.0,
            "retain_tolerance": 0.01,
            "lambda_mismatch": 1.0,
            "tau": 0.2,
            "max_units": 6,
            "search_evaluations": 4,
            "step_share": 0.25,
            "calming": 0.85,
            "min_gain": 0.2,
            "forget_risk": 0.5,
        },
        "slug": {"towers": ("text",), "grouped": True, "deepest": True},
        "salun": {"towers": ("denoiser",), "learning_rate": 1e-4, "steps": 60, "read_every": 12},
    },
    Family.VLM: {
        "razor": {
            "towers": ("projector",),
            "adaptive": True,
            "lambda_forget": 0.05,
            "lambda_mismatch": 1.0,
            "retain_tolerance": 0.02,
            "tau": 0.1,
            "min_gain": 0.0,
            "search_evaluations": 4,
            "step_share": 0.25,
            "calming": 0.95,
            "steps": 48,
            "patience": 24,
            "forget_risk": 0.2,
        },
        "slug": {"towers": ("image",)},
        "ga": {"towers": ("image",)},
        "ft": {"towers": ("image",)},
        "gaft": {"towers": ("image",)},
        "salun": {"towers": ("image",)},
    },
}


def for_family(params: Method, family: Family) -> Method:
    """The parameters with what was not set at the family's own default. Idempotent."""
    own = DEFAULTS.get(family, {}).get(params.method, {})
    unset = {name: value for name, value in own.items() if name not in params.model_fields_set}
    return params.model_copy(update=unset)


class MethodView(Output):
    """One entry of the method catalog."""

    method: str
    summary: str
    families: list[Family]
    parameters: dict[str, object]
    defaults: dict[Family, dict[str, object]]


def catalog() -> list[MethodView]:
    """Every method with the families it supports and the JSON schema of its parameters."""
    return [
        MethodView(
            method=name,
            summary=cls.summary,
            families=sorted(cls.families),
            parameters=_schema(cls, name),
            defaults={family: dict(own[name]) for family, own in DEFAULTS.items() if name in own},
        )
        for cls in METHODS
        for name in _names_of(cls)
    ]


def names(family: Family | None = None) -> list[str]:
    """The name of every method, or of those for one family, in the catalog's order."""
    return [
        name
        for cls in METHODS
        for name in _names_of(cls)
        if family is None or family in cls.families
    ]


def _names_of(cls: type[Input]) -> tuple[str, ...]:
    found: tuple[str, ...] = get_args(cls.model_fields["method"].annotation)
    return found


def _schema(cls: type[Input], name: str) -> dict[str, object]:
    """The schema for one name: of a class that has several, the others are no choice here."""
    schema: dict[str, Any] = cls.model_json_schema()
    title = schema["properties"]["method"]["title"]
    schema["properties"]["method"] = {
        "const": name,
        "default": name,
        "title": title,
        "type": "string",
    }
    return schema
