"""The model card of a patch: ``README.md``, with the front matter that model hubs read.

Everything is taken from the manifest, so that the card can be no better than the figures.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from api_schemas.patches import PatchManifest
from api_schemas.reports import Gate, Measurement, MetricResult


def write(manifest: PatchManifest, limits: Sequence[str]) -> bytes:
    """The card as UTF-8: front matter, what it is, how it was made, figures, limits, use."""
    parts = [
        _front_matter(manifest),
        _what(manifest),
        _how(manifest),
        _figures(manifest),
        "## Limits\n\n" + "".join(f"- {limit}\n" for limit in limits),
        _use(manifest),
    ]
    return "\n".join(parts).encode()


def _front_matter(manifest: PatchManifest) -> str:
    # JSON strings are YAML strings too.
    fields: dict[str, object] = {
        "base_model": manifest.model.id,
        "library_name": "razor-unlearning",
        "tags": ["machine-unlearning", "patch", manifest.model.family.value, _method(manifest)],
        "base_checkpoint_digest": manifest.model.checkpoint_digest,
        "base_version": manifest.model.parent,
        "patch_sha256": manifest.patch_sha256,
        "gate": manifest.gate.verdict.value,
    }
    lines = "".join(f"{name}: {json.dumps(value)}\n" for name, value in fields.items())
    return f"---\n{lines}---\n"


def _what(manifest: PatchManifest) -> str:
    model = manifest.model
    tensors = len({(entry.file, entry.tensor) for entry in manifest.tensors})
    return (
        f"# A patch that makes {model.id} forget\n\n"
        f"New values for parts of {tensors} tensors ({manifest.patch_bytes} bytes) of the "
        f"{model.family.value} model `{model.id}`, version {model.parent}; the weights registered "
        f"as version 0 have the digest `{model.checkpoint_digest}`. With it the model no longer "
        "recognises one concept that its owner was asked to have it forget. Whom or what is not "
        "said here.\n\n"
        "Intended use: these weights alone. On any other weights it is refused.\n"
    )


def _how(manifest: PatchManifest) -> str:
    run = manifest.provenance
    roles = manifest.roles
    method = json.dumps(run.method, sort_keys=True, ensure_ascii=False)
    return (
        "## How it was made\n\n"
        f"- Method and every parameter: `{method}`\n"
        f"- Seed {run.seed}, {run.device}, {run.dtype}, {run.threads} threads; libraries: "
        f"{', '.join(f'{name} {version}' for name, version in sorted(run.libraries.items()))}\n"
        f"- Pictures of the target: {roles.target_fit} to fit, {roles.target_select} to choose, "
        f"{roles.target_test} to test; retained: {roles.retain_fit}, {roles.retain_select}, "
        f"{roles.retain_test}\n"
    )


def _figures(manifest: PatchManifest) -> str:
    head = (
        "## Figures\n\nOn pictures that nothing was tuned on; intervals at 95 %.\n\n"
        "| metric | | target | before | after | n |\n|---|---|---|---|---|---|\n"
    )
    rows = "".join(_row(metric) for metric in manifest.metrics)
    return head + rows + "\n" + _verdict(manifest.gate)


def _row(metric: MetricResult) -> str:
    cells = (
        metric.id,
        f"{metric.name} ({metric.unit}, {metric.better.value} is better)",
        str(metric.target + 1),
        _figure(metric.before),
        _figure(metric.after),
        str(metric.after.n),
    )
    return f"| {' | '.join(cells)} |\n"


def _figure(found: Measurement) -> str:
    low, high = found.interval
    return f"{found.value:.4g} ({low:.4g} to {high:.4g})"


def _verdict(gate: Gate) -> str:
    weak = ", on weak evidence" if gate.weak_evidence else ""
    checks = "".join(
        f"- {check.metric} {check.rule} {check.threshold:g}: {check.found:.4g}, "
        f"{'passed' if check.passed else 'failed'}{' (weak)' if check.weak else ''}\n"
        for check in gate.checks
    )
    return f"Verdict of the gate: {gate.verdict.value}{weak}.\n\n{checks}"


def _use(manifest: PatchManifest) -> str:
    return (
        "## Use\n\n"
        "```\n"
        "razor apply PATCH_FOLDER --checkpoint WEIGHTS --out PATCHED\n"
        "razor verify PATCH_FOLDER --checkpoint PATCHED\n"
        "razor revert PATCHED\n"
        "```\n\n"
        f"WEIGHTS is `{manifest.model.id}` at version {manifest.model.parent}. Taking the patch "
        "off gives every bit back.\n"
    )


def _method(manifest: PatchManifest) -> str:
    return str(manifest.provenance.method.get("method", "unknown"))
