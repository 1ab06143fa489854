"""The erasure certificate: from what the service kept of a finished job to one statement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from api_schemas.certificates import (
    CertifiedData,
    CertifiedMeasurement,
    CertifiedModel,
    CertifiedPatch,
    CertifiedRequest,
    CertifiedRun,
    ErasureCertificate,
)
from api_schemas.patches import PatchManifest
from api_schemas.reports import Gate, MetricResult, Report
from api_schemas.requests import Probe
from evidence import limits
from evidence.lines import moment
from patches.digests import chunks_digest
from patches.folder import manifest_bytes


@dataclass(frozen=True, slots=True)
class Erasure:
    """A job that ended with a published patch. Nothing here is a name, a prompt or a picture.

    ``subject`` is a keyed hash of whom it is about, None where none is kept. ``probes`` are the
    attacks that were asked for.
    """

    job_id: str
    regulation: str
    received_at: datetime
    completed_at: datetime
    due_at: datetime | None
    targets: int
    probes: tuple[Probe, ...]
    patch_id: str
    version: int
    manifest: PatchManifest
    report: Report
    subject: str | None = None


def make(erasure: Erasure, *, issued_at: datetime) -> ErasureCertificate:
    """What is certified: every field is copied from the job, its manifest or its report."""
    manifest, report = erasure.manifest, erasure.report
    gate = manifest.gate
    return ErasureCertificate(
        issued_at=moment(issued_at),
        request=_request(erasure),
        model=CertifiedModel(
            id=manifest.model.id,
            family=manifest.model.family,
            checkpoint_digest=manifest.model.checkpoint_digest,
            parent=manifest.model.parent,
            parent_patches=manifest.model.parent_patches,
            version=erasure.version,
        ),
        patch=CertifiedPatch(
            id=erasure.patch_id,
            sha256=manifest.patch_sha256,
            bytes=manifest.patch_bytes,
            manifest_sha256=chunks_digest([manifest_bytes(manifest)]),
            edited=manifest.units,
        ),
        run=CertifiedRun.model_validate(manifest.provenance.model_dump()),
        data=CertifiedData.model_validate(manifest.roles.model_dump()),
        measurements=_held(report.metrics, gate),
        attacks=_held(report.robustness, gate),
        earlier=[
            held.model_copy(update={"version": result.version})
            for result in report.earlier
            for held in _held([result.metric], gate)
        ],
        gate=gate,
        limits=limits.of(report, manifest.model.family, erasure.probes),
    )


def _request(erasure: Erasure) -> CertifiedRequest:
    due = erasure.due_at
    return CertifiedRequest(
        job_id=erasure.job_id,
        regulation=erasure.regulation,
        received_at=moment(erasure.received_at),
        completed_at=moment(erasure.completed_at),
        due_at=None if due is None else moment(due),
        in_time=None if due is None else erasure.completed_at <= due,
        targets=erasure.targets,
        subject=erasure.subject,
    )


def _held(metrics: Sequence[MetricResult], gate: Gate) -> list[CertifiedMeasurement]:
    """Each figure with the threshold of its kind: the gate has one rule for each metric."""
    rules = {check.metric: check for check in gate.checks}
    return [
        CertifiedMeasurement(
            metric=metric,
            rule=rules[metric.id].rule if metric.id in rules else None,
            threshold=rules[metric.id].threshold if metric.id in rules else None,
            version=None,
        )
        for metric in metrics
    ]
