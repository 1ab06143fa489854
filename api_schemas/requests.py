"""The body of ``POST /unlearn``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import (
    AwareDatetime,
    Base64Bytes,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from api_schemas.base import Input
from api_schemas.concepts import MAX_PROBE_SAMPLES as MAX_PROBE_SAMPLES
from api_schemas.concepts import MAX_SAMPLES as MAX_SAMPLES
from api_schemas.concepts import MIN_SAMPLES as MIN_SAMPLES
from api_schemas.concepts import Target
from api_schemas.methods import Method, Razor

MAX_TARGETS = 8
#: Pictures that a generator paints of a target, for measuring.
PICTURES = 64
#: The key under which an error of several fields together says which field to look at.
PLACE = "place"
#: The fields that are personal data: gone from a request once its job has ended.
PERSONAL: Final = ("target", "targets", "metadata")
#: The validation context in which a request may lack them.
WITHOUT_PERSONAL: Final = "without_personal"

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


class Probe(StrEnum):
    """An attack that the result can be tried with."""

    QUANTIZE = "quantize"
    RELEARN = "relearn"
    PROMPTS = "prompts"
    LINEAR = "linear"
    LEARNT_WORD = "learnt_word"


class Evaluation(Input):
    """How the result is judged."""

    thresholds: Thresholds = Thresholds()
    pictures: int = Field(
        default=PICTURES,
        ge=8,
        le=1024,
        description="Only for picture generators: how many pictures that ask for the target are "
        "painted before and after, for measuring; of what is retained 2.5 times as many.",
    )
    probes: tuple[Probe, ...] = Field(
        default=(Probe.QUANTIZE, Probe.PROMPTS, Probe.LINEAR),
        description="Attacks whose success is reported: rounding to 8 and 4 bits, other wordings "
        "of the name and leading questions, a linear classifier on picture features (CLIP), a few "
        "steps of relearning (CLIP, vision-language), a word learnt from the pictures (picture "
        "generators). One that a model of the family cannot be tried with is left out.",
    )


class UnlearnRequest(Input):
    """Make one model forget one concept, or several in one patch.

    Exactly one of ``target`` and ``targets`` is given. In a list of two or more each target says
    how many samples are its own, and no name or alias (whatever its case) is that of another.
    """

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["target"]}, {"required": ["targets"]}]}
    )

    model: ModelId
    target: Target | None = Field(
        default=None, description="What is to be forgotten. Send this or `targets`."
    )
    targets: tuple[Target, ...] = Field(
        default=(),
        max_length=MAX_TARGETS,
        description="Several concepts to forget in one patch, instead of `target`. Each says in "
        "`samples` how many samples are its own; they follow each other in the list's order.",
    )
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
        default=False,
        description="Pre-flight, what would be edited and its cost: no patch.",
    )
    metadata: dict[MetadataKey, MetadataValue] = Field(default_factory=dict, max_length=32)

    def wanted(self) -> tuple[Target, ...]:
        """What is to be forgotten, in order, in whichever form it was sent.

        At least one, unless this is what remains of a request whose personal data is gone.
        """
        return self.targets if self.target is None else (self.target,)

    def without_personal(self) -> Self:
        """The same request without whom it is about and without free text."""
        return self.model_copy(update={"target": None, "targets": (), "metadata": {}})

    @model_validator(mode="after")
    def _check_targets(self, info: ValidationInfo) -> Self:
        if self.target is not None and self.targets:
            raise _wrong("target_and_targets", "Send target or targets, not both.", "targets")
        if not self.wanted() and not (info.context or {}).get(WITHOUT_PERSONAL):
            words = "Say what is to be forgotten: send target, or targets for a list of them."
            raise _wrong("missing", words, "target")
        if len(self.targets) > 1:
            _check_list(self.targets)
        return self


class UnlearnRequestWithImages(UnlearnRequest):
    """The JSON form of the call: the same request, with its pictures in base64."""

    samples: tuple[Base64Bytes, ...] = Field(
        description=f"{MIN_SAMPLES} to {MAX_SAMPLES} pictures of each target, JPEG, PNG or WEBP, "
        "target by target."
    )
    probe_samples: tuple[Base64Bytes, ...] = Field(
        default=(),
        description=f"Up to {MAX_PROBE_SAMPLES} further pictures of each target, used for "
        "measuring only.",
    )

    def request(self) -> UnlearnRequest:
        """The request without its pictures."""
        return UnlearnRequest.model_validate(self.model_dump(exclude={"samples", "probe_samples"}))


def _check_list(targets: tuple[Target, ...]) -> None:
    taken: set[str] = set()
    for number, target in enumerate(targets):
        if target.samples is None:
            words = "In a list each target says how many of the samples are its own: add samples."
            raise _wrong("missing", words, "targets", number, "samples")
        own = {name.casefold() for name in target.names()}
        if own & taken:
            words = "This target has a name or alias of an earlier one; send each target once."
            raise _wrong("repeated_name", words, "targets", number)
        taken |= own


def _wrong(code: str, words: str, *place: str | int) -> PydanticCustomError:
    """An error of the whole request that says which field to look at, and repeats no value."""
    return PydanticCustomError(code, words, {PLACE: place})
