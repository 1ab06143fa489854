"""What was measured, on what, and whether it is good enough."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from api_schemas.base import Output


class Better(StrEnum):
    """Which way a figure should move."""

    LOWER = "lower"
    HIGHER = "higher"
    ZERO = "zero"


class Measurement(Output):
    """One figure with its uncertainty: ``interval`` is at 95 %, ``n`` the pictures behind it."""

    value: float
    n: int
    interval: tuple[float, float]


class MetricResult(Output):
    """One metric before and after the edit, both on pictures that nothing was tuned on.

    ``change`` is after minus before, with an interval for paired pictures: the same pictures are
    judged twice, so it is narrower than the two intervals suggest. ``target`` is the target's place
    in its request, from 0.
    """

    id: str
    target: int = 0  # patches of single-target requests were written without it
    name: str
    definition: str
    unit: str
    better: Better
    before: Measurement
    after: Measurement
    change: Measurement


class Verdict(StrEnum):
    """What the gate says. Only ``pass`` is published as a version."""

    PASS = "pass"
    PARTIAL = "partial"
    FAIL = "fail"


class GateCheck(Output):
    """One threshold and what was found. ``weak`` = the interval's worse end misses it."""

    metric: str
    rule: str
    threshold: float
    found: float
    passed: bool
    weak: bool


class Gate(Output):
    """The verdict: pass = every check, partial = forgotten but others harmed, fail = the rest."""

    verdict: Verdict
    weak_evidence: bool
    checks: list[GateCheck]


class DataRoles(Output):
    """How many pictures played which part, and the digests that name them without showing them.

    Of several targets: all their pictures together, and the retain set of the first.
    """

    target_fit: int
    target_select: int
    target_test: int
    retain_fit: int
    retain_select: int
    retain_test: int
    target_digest: str
    retain_digest: str


class Preflight(Output):
    """Does the model know the concept at all? Measured before anything is edited.

    The three similarities are mean cosines: of the samples with each other, of retained pictures
    of one name, and of retained pictures of different names. ``target`` is the place in the
    request.
    """

    target: int
    known: bool
    accuracy: Measurement
    chance: float
    sample_similarity: float
    kin_similarity: float | None = None  # reports of the first release were written without it
    stranger_similarity: float


class UnitScore(Output):
    """One unit's score for one target; ``chosen`` in which round, None if it was left alone."""

    target: int
    unit: str
    score: float
    forget_norm: float
    weight_norm: float
    cosine: float
    chosen: int | None


class EarlierResult(Output):
    """An earlier target, measured again: it must not come back.

    ``version`` is the version that forgot it, None for an earlier target of the same request;
    ``metric.target`` is its place in its request.
    """

    version: int | None
    metric: MetricResult


class EditedUnit(Output):
    """One edited unit and how far it moved: ``step_ratio`` = |change| / |weights|."""

    unit: str
    step_ratio: float


class PictureGrid(Output):
    """What a generator paints: the base model's pictures above, the patched model's below.

    Each column is one prompt and one seed. The first ``of_target`` columns ask for the target, the
    others for something retained. They show what was to be forgotten: keep them as you keep the
    samples. The service does: it deletes them when it deletes the samples, and keeps the counts.
    """

    target: int
    of_target: int
    of_retained: int
    png: str | None = Field(
        description="The grid as a PNG file, in base64; null once it is deleted, which is with the "
        "samples: at the job's end, unless the tenant has a retention time."
    )


class Cost(Output):
    """What the run cost. Kept out of the patch manifest, which must not depend on the clock."""

    wall_seconds: float
    phase_seconds: dict[str, float]
    forward_passes: int
    backward_passes: int
    peak_memory_bytes: int
    # Seconds of all processors; reports of older versions were written without it.
    phase_processor_seconds: dict[str, float] = Field(default_factory=dict)


class Estimate(Output):
    """What an edit would touch and cost: only in the report of a dry run.

    ``units`` would be edited first; ``weights`` is how many values they hold. The pairs are the
    least and the most that the whole run would take, and ``based_on`` says what was measured for
    that. ``leaves_out`` names the attacks that were asked for: a dry run makes none, so that their
    time is not in the figures.
    """

    units: list[str]
    weights: int
    seconds: tuple[float, float]
    forward_passes: tuple[int, int]
    backward_passes: tuple[int, int]
    peak_memory_bytes: int
    based_on: str
    leaves_out: list[str]


class Report(Output):
    """Everything a run found out."""

    model: str
    model_version: int
    method: str
    seed: int
    roles: DataRoles
    preflight: list[Preflight]  # one per target
    metrics: list[MetricResult]
    robustness: list[MetricResult]  # attacks: can the erased be brought back?
    earlier: list[EarlierResult]
    gate: Gate | None
    scores: list[UnitScore]
    edited: list[EditedUnit]
    weights_changed: int
    weights_total: int
    patch_bytes: int
    pictures: tuple[PictureGrid, ...] = ()  # reports of older versions were written without it
    estimate: Estimate | None = None  # as were these
    warnings: list[str]
    cost: Cost
