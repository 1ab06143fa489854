"""What was not measured, and what no measurement says: the plain words of every certificate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from api_schemas.families import Family
from api_schemas.reports import MetricResult, Report
from api_schemas.requests import Probe

#: What holds whatever was measured.
ALWAYS: Final = (
    "Approximate unlearning was measured, not proved: low figures on the test pictures are no "
    "proof that nothing about the subject is left in the weights.",
    "An attack that was not tried may bring back what these attacks did not.",
    "Copies of the earlier weights elsewhere, and models made from them, are not touched.",
    "The pictures that measured were few and chosen by the requester; other pictures may differ.",
)

#: The figures that the gate can hold against a threshold, by family (razor/gate.py).
GATED: Final[Mapping[Family, tuple[str, ...]]] = {
    Family.CLIP: ("M1", "M4", "M5", "M6", "M7_retain"),
    Family.DIFFUSION: ("UA", "IRA", "IRA_near", "S", "CRA"),
    Family.VLM: ("NR", "RNR", "RNR_near", "VQA"),
}

#: What the ids of an attack's figures have in them; the other attacks are wordings of the name.
_MARKS: Final[Mapping[Probe, str]] = {
    Probe.QUANTIZE: "_int",
    Probe.RELEARN: "_relearn",
    Probe.LINEAR: "_linear",
    Probe.LEARNT_WORD: "_learnt",
}
_NAMES: Final[Mapping[Probe, str]] = {
    Probe.QUANTIZE: "rounding the weights to 8 and 4 bits",
    Probe.RELEARN: "a few steps of training on the target's pictures",
    Probe.PROMPTS: "other wordings of the name and leading questions",
    Probe.LINEAR: "a linear classifier on picture features",
    Probe.LEARNT_WORD: "a word learnt from the target's pictures",
}


def of(report: Report, family: Family, asked: Sequence[Probe]) -> list[str]:
    """Everything that a reader of the figures must know besides, in sentences."""
    found = [*ALWAYS, *_unmeasured(report, family), *_untried(report.robustness, asked)]
    if report.gate is not None and report.gate.weak_evidence:
        found.append(
            "Some thresholds hold for the figure but not for the worse end of its interval: more "
            "pictures could change the verdict."
        )
    if report.model_version and not report.earlier:
        found.append(
            f"The model had forgotten others before (versions 1 to {report.model_version}); none "
            "of them was measured again after this edit."
        )
    return list(dict.fromkeys([*found, *report.warnings]))


def _unmeasured(report: Report, family: Family) -> list[str]:
    measured = {metric.id for metric in report.metrics}
    return [
        f"{metric} was not measured, so its threshold was not checked."
        for metric in GATED[family]
        if metric not in measured
    ]


def _untried(robustness: Sequence[MetricResult], asked: Sequence[Probe]) -> list[str]:
    tried = {_probe(metric.id) for metric in robustness}
    return [
        f"Not tried: {_NAMES[probe]} "
        + (
            "(asked for, but it gave no figure for this model)."
            if probe in asked
            else "(not asked for)."
        )
        for probe in Probe
        if probe not in tried
    ]


def _probe(metric: str) -> Probe:
    return next((probe for probe, mark in _MARKS.items() if mark in metric), Probe.PROMPTS)
