"""What a report says in sentences: the verdict, and what nobody measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from api_schemas.families import Family
from api_schemas.jobs import JobView, Outcome
from api_schemas.reports import GateCheck, MetricResult, Report, Verdict
from api_schemas.requests import Probe

#: What each attack is, for a reader who never heard of it.
ATTACKS: Final[dict[Probe, str]] = {
    Probe.QUANTIZE: "rounding the weights to 8 and 4 bits",
    Probe.RELEARN: "a few steps of relearning on the target's pictures",
    Probe.PROMPTS: "other wordings of the name, and leading questions",
    Probe.LINEAR: "a linear classifier on picture features",
    Probe.LEARNT_WORD: "a new word learnt from the target's pictures",
}
_ONLY: Final[dict[Family, str]] = {
    Family.CLIP: "Only recognition by name was measured. What else is built on this model, such as "
    "search by example or a classifier trained on its features, was not.",
    Family.DIFFUSION: "Pictures were judged by another model, not by people, and only pictures "
    "that plain prompts ask for. Editing of given pictures, inpainting and added adapters were not "
    "tried.",
    Family.VLM: "Only the questions of this model's record were asked, one at a time and in their "
    "language. Longer conversations were not tried.",
}
_ALWAYS: Final = (
    "Approximate unlearning is no proof of absence: the weights were moved until the model no "
    "longer shows the target in these measurements. Traces may remain, and an attack that was not "
    "tried, or tried longer, may bring the target back.",
    "What the model lost was only looked for among the retained pictures. Harm to what they do not "
    "show would not be seen here.",
    "This page speaks of one version of one model. Copies, earlier versions, models trained from "
    "it, backups, training data, and what the model gave out before are as they were.",
    "This is a technical measurement, not legal advice: whether it satisfies a request is for "
    "people to decide.",
)
_NOT_FORGOTTEN: Final = (
    "Refused: the model still shows {target} after the edit. Nothing was published."
)
_HARMED: Final = (
    "Refused: the model no longer shows {target}, but something else was harmed by more than the "
    "limits allow. Nothing was published."
)


@dataclass(frozen=True, slots=True)
class Said:
    """The verdict: its ``kind`` for the eye, one sentence, and what must be read with it."""

    kind: str
    sentence: str
    lines: list[str]


def verdict(job: JobView, report: Report) -> Said:
    """What came of the job."""
    target = "the target" if len(report.preflight) == 1 else "the targets"
    gate = report.gate
    lines = [] if gate is None else _doubts(gate.checks)
    unknown = [str(one.target + 1) for one in report.preflight if not one.known]
    if unknown and len(unknown) < len(report.preflight):
        lines.append(
            "The model did not know these targets of the request, and they were left alone: "
            + ", ".join(unknown)
            + "."
        )
    if job.outcome is Outcome.PATCHED:
        version = None if job.result is None else job.result.model_version
        sentence = (
            f"Passed: within the limits below the model no longer shows {target} and keeps the "
            f"rest. It is published as version {version}."
        )
        return Said("pass", sentence, lines)
    if job.outcome is Outcome.GATE_REFUSED:
        partial = gate is not None and gate.verdict is Verdict.PARTIAL
        sentence = (_HARMED if partial else _NOT_FORGOTTEN).format(target=target)
        return Said("partial" if partial else "fail", sentence, lines)
    return Said("none", _nothing_done(job, report, target), lines)


def _nothing_done(job: JobView, report: Report, target: str) -> str:
    known = any(one.known for one in report.preflight)
    if not known:
        return (
            f"Nothing to forget: the model did not recognise {target} more often than chance "
            "would, so nothing was edited."
        )
    if job.outcome is Outcome.DRY_RUN:
        return f"Dry run: the model knows {target}; nothing was edited and nothing was judged."
    return f"Nothing was changed: the model already met every limit for {target}."


def unjudged(job: JobView) -> str:
    """Why a gate checked nothing."""
    if job.outcome is Outcome.DRY_RUN:
        return "a dry run edits nothing, so there was nothing to judge."
    return "nothing was edited, so there was nothing to judge."


def _doubts(checks: Sequence[GateCheck]) -> list[str]:
    weak = [check.metric for check in checks if check.weak]
    failed = [check.metric for check in checks if not check.passed]
    lines = []
    if failed:
        lines.append("Failed checks: " + ", ".join(dict.fromkeys(failed)) + ".")
    if weak:
        lines.append(
            "On weak evidence: more pictures could still change the answer of "
            + ", ".join(dict.fromkeys(weak))
            + "."
        )
    return lines


def limits(
    report: Report, family: Family, asked: Sequence[Probe], forgetting: Sequence[MetricResult]
) -> Iterator[str]:
    """What was not measured and what the figures do not prove, the specific before the general.

    ``forgetting`` are the judged metrics of this request's targets that should fall or rise to
    show that the target is gone.
    """
    for metric in forgetting:
        low, high = metric.after.interval
        yield (
            f"{metric.name.capitalize()} ({metric.id}) stands on {metric.after.n} pictures: on all "
            f"pictures that could be made, anything from {low:.1f} to {high:.1f} fits what was "
            "seen (95 % interval)."
        )
    if not report.edited:
        yield "Nothing was edited, so this page says nothing about how well an edit would do."
    left_out = [words for probe, words in ATTACKS.items() if probe not in asked]
    if left_out and report.edited:
        yield "Attacks that nobody asked for, and that were not tried: " + "; ".join(left_out) + "."
    if asked and report.edited:
        yield (
            "Of the attacks that were asked for, one without a line under Robustness does not "
            "suit this kind of model and was not tried. Attacks have no thresholds: the verdict "
            "does not depend on them."
        )
    yield _ONLY[family]
    yield from _ALWAYS
