"""Every call that the service documents is a method of the client, or is named here."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from front_world import unlearn_request

from api_schemas.families import Family
from api_schemas.reasons import ExtensionReason, RevocationReason
from api_schemas.shelf import ModelRecord, RetainSet
from client import Client, ProblemError
from registry.settings import Settings
from service.app import create_app
from service.broker import MemoryBroker

#: Not for callers of the client: probes of an orchestrator, the page that a problem's type leads
#: to, and what privacy platforms speak with software of their own.
OTHERS = re.compile(r"/healthz|/problems/|/opendsr/")
#: Made once another call has succeeded, which here none does: files after their head or manifest,
#: a head to go on with a download that broke off. Their own tests have them.
LATER = {
    ("get", "/patches/{patch_id}/patch.safetensors"),
    ("head", "/patches/{patch_id}/patch.safetensors"),
    ("head", "/jobs/{job_id}/evidence"),
    ("get", "/patches/{patch_id}/weights"),
    ("get", "/models/{model_id}/versions/{number}/weights"),
}
RECORD = ModelRecord(id="m", family=Family.CLIP, checkpoint="w", retain=RetainSet(folder="k"))
CALLS: tuple[Callable[[Client, Path], Any], ...] = (
    lambda c, _: c.submit(unlearn_request(), [b"1", b"2", b"3"]),
    lambda c, _: c.job("j"),
    lambda c, _: c.jobs(),
    lambda c, _: c.evaluation("j"),
    lambda c, _: c.report_page("j"),
    lambda c, _: c.cancel("j"),
    lambda c, _: c.retry("j"),
    lambda c, _: c.approve("j"),
    lambda c, _: c.decline("j"),
    lambda c, _: c.extend("j", ExtensionReason.COMPLEXITY),
    lambda c, _: c.history("j"),
    lambda c, _: list(c.events("j")),
    lambda c, folder: c.evidence("j", folder / "evidence"),
    lambda c, _: c.models(),
    lambda c, _: c.add_model(RECORD),
    lambda c, _: c.model("m"),
    lambda c, _: c.methods(),
    lambda c, _: c.versions("m"),
    lambda c, folder: c.download_version("m", 1, folder / "version"),
    lambda c, _: c.version_is_a_folder("m", 1),
    lambda c, _: c.revoke("m", 1, RevocationReason.DEFECT),
    lambda c, _: c.patch("p"),
    lambda c, folder: c.download_weights("p", folder / "weights"),
    lambda c, _: c.weights_are_a_folder("p"),
    lambda c, _: c.audit(),
    lambda c, _: c.audit_checkpoint(),
    lambda c, _: c.audit_proof(1),
    lambda c, _: c.audit_consistency(1, 2),
    lambda c, _: c.audit_key(),
    lambda c, _: c.add_webhook("https://example.org/"),
    lambda c, _: c.webhooks(),
    lambda c, _: c.webhook("w"),
    lambda c, _: c.enable_webhook("w"),
    lambda c, _: c.remove_webhook("w"),
    lambda c, _: c.rotate_webhook_secret("w"),
    lambda c, _: c.test_webhook("w"),
    lambda c, _: c.deliveries("w"),
    lambda c, _: c.replay_delivery("w", "d"),
    lambda c, _: c.readyz(),
    lambda c, _: c.version(),
    lambda c, _: c.metrics(),
)


def test_every_call_is_covered(tmp_path: Path) -> None:
    asked: set[tuple[str, str]] = set()

    def refuse(request: httpx.Request) -> httpx.Response:
        asked.add((request.method.lower(), request.url.path))
        return httpx.Response(418)

    with Client("http://service", transport=httpx.MockTransport(refuse)) as client:
        for call in CALLS:
            with pytest.raises(ProblemError):
                call(client, tmp_path)
    paths = create_app(Settings(data_folder=tmp_path), broker=MemoryBroker()).openapi()["paths"]
    documented = {
        (method, path)
        for path, operations in paths.items()
        for method in operations
        if not OTHERS.match(path)
    }
    assert len(documented) > 35, "the control: the document is the whole one"
    missing = {
        (method, path)
        for method, path in documented
        if not any(verb == method and matches(path, found) for verb, found in asked)
    }
    assert missing == LATER


def matches(template: str, path: str) -> bool:
    wanted, found = template.split("/"), path.split("/")
    return len(wanted) == len(found) and all(
        part == name or part.startswith("{") for part, name in zip(wanted, found, strict=True)
    )
