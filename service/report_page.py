"""The report as one page that needs nothing else: no script, no link, no font from elsewhere.

What it shows is chosen here, value by value: the request with its names never reaches a template.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from api_schemas.families import Family
from api_schemas.jobs import JobView
from api_schemas.judged import Judged, judged
from api_schemas.methods import Method
from api_schemas.reports import Better, EarlierResult, MetricResult, Report
from api_schemas.requests import Probe
from service import plots, report_words

if TYPE_CHECKING:
    import jinja2

_FOLDER: Final = Path(__file__).parent / "templates"
_BETTER: Final = {
    Better.LOWER: "lower is better",
    Better.HIGHER: "higher is better",
    Better.ZERO: "nearer to zero is better",
}
#: The gate's metrics that say whether a target is gone; the others say what was harmed.
FORGETTING: Final = ("M1", "UA", "NR")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a page is made of. ``patch_sha256`` is None where there is no patch."""

    job: JobView
    report: Report
    family: Family
    checkpoint_digest: str
    method: Method
    probes: tuple[Probe, ...]
    patch_sha256: str | None


def render(finding: Finding) -> str:
    """The page: the same finding is the same text, whenever and wherever it is made."""
    return _template().render(_context(finding))


@functools.cache
def policy() -> str:
    """The Content-Security-Policy of the page: its own style, pictures inside it, nothing else."""
    digest = base64.b64encode(hashlib.sha256(_css().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


@functools.cache
def _css() -> str:
    return (_FOLDER / "report.css").read_text(encoding="utf-8")


@functools.cache
def _template() -> jinja2.Template:
    # Imported with the first page: a front that shows none need not wait for it.
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")


def _context(finding: Finding) -> dict[str, Any]:
    from markupsafe import Markup

    job, report = finding.job, finding.report
    metrics, earlier = judged(report)
    count = len(report.preflight)
    return {
        "css": Markup(_css()),
        "policy": policy(),
        "number": plots.short,
        "job": job,
        "report": report,
        "several": count > 1,
        "verdict": report_words.verdict(job, report),
        "unjudged": report_words.unjudged(job),
        "facts": list(_facts(finding)),
        "warnings": report.warnings,
        "checks": [
            _row(pair, _place(pair[0], each))
            for pair, each in zip(
                (*metrics, *earlier), (*[None] * len(metrics), *report.earlier), strict=True
            )
            if pair[1] is not None
        ],
        "metrics": _groups(metrics, count),
        "attacks": _groups([(metric, None) for metric in report.robustness], count)
        if report.robustness
        else [],
        "earlier": [
            _row(pair, _place(pair[0], each))
            for pair, each in zip(earlier, report.earlier, strict=True)
        ],
        "pictures": report.pictures,
        "edited": [
            {
                "name": unit.unit,
                "bar": plots.bar(unit.step_ratio / _longest(report)),
                "share": f"{100 * unit.step_ratio:.2f} %",
            }
            for unit in report.edited
        ],
        "changed": _changed(report),
        "parameters": _parameters(finding.method),
        "cost": list(_cost(report)),
        "limits": list(
            report_words.limits(
                report,
                finding.family,
                finding.probes,
                [metric for metric, check in metrics if check and metric.id in FORGETTING],
            )
        ),
    }


def _row(pair: Judged, place: str) -> dict[str, Any]:
    metric, check = pair
    return {
        "metric": metric,
        "better": _BETTER[metric.better],
        "check": check,
        "plot": plots.whiskers(pair),
        "place": place,
    }


def _groups(pairs: Sequence[Judged], count: int) -> list[dict[str, Any]]:
    return [
        {
            "number": number,
            "rows": [_row(pair, "") for pair in pairs if pair[0].target == number],
        }
        for number in range(count)
    ]


def _place(metric: MetricResult, earlier: EarlierResult | None) -> str:
    number = metric.target + 1
    if earlier is None:
        return f"{number}"
    if earlier.version is None:
        return f"this request, target {number}"
    return f"version {earlier.version}, target {number}"


def _facts(finding: Finding) -> list[tuple[str, str]]:
    job = finding.job
    found = [
        ("Kind of model", finding.family.value),
        ("Weights as registered", finding.checkpoint_digest),
        ("Rests on", {"none": "no regulation"}.get(job.regulation, job.regulation.upper())),
        ("Your reference", job.subject_request_id),
        ("Subjects (keyed hashes)", ", ".join(job.subjects)),
        ("Received", _moment(job.created_at)),
        ("Due", _moment(job.due_at)),
        ("Finished", _moment(job.finished_at)),
        ("Status", f"{job.status.value}, {job.outcome.value if job.outcome else 'no outcome'}"),
        ("Name and pictures deleted", _moment(job.erased_at)),
        ("Patch", job.result.patch_id if job.result else None),
        ("Patch file (sha256)", finding.patch_sha256),
    ]
    return [(name, value) for name, value in found if value]


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _longest(report: Report) -> float:
    return max((unit.step_ratio for unit in report.edited), default=0.0) or 1.0


def _changed(report: Report) -> str:
    share = 100 * report.weights_changed / max(1, report.weights_total)
    scored = (
        f"{len(report.scores)} scores of units were compared to choose them. "
        if report.scores
        else ""
    )
    return (
        f"{report.weights_changed:,} of {report.weights_total:,} weights ({share:.2f} %) in "
        f"{len(report.edited)} units; the patch has {report.patch_bytes:,} bytes. {scored}The "
        "length of a change is compared with the length of the unit's weights before it."
    )


def _parameters(method: Method) -> list[dict[str, str]]:
    values = method.model_dump(mode="json")
    return [
        {
            "name": name,
            "value": json.dumps(values[name], ensure_ascii=False),
            "description": field.description or "",
        }
        for name, field in type(method).model_fields.items()
        if name != "method"
    ]


def _cost(report: Report) -> list[tuple[str, str]]:
    cost = report.cost
    computed = sum(cost.phase_processor_seconds.values())
    return [
        ("Time", f"{cost.wall_seconds:.1f} s"),
        *((f"of it {name}", f"{value:.1f} s") for name, value in cost.phase_seconds.items()),
        *([("Time of all processors", f"{computed:.1f} s")] if computed else []),
        ("Forward passes", f"{cost.forward_passes:,}"),
        ("Backward passes", f"{cost.backward_passes:,}"),
        ("Largest memory", f"{cost.peak_memory_bytes / 2**20:,.0f} MiB"),
    ]
