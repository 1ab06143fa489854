"""The calls: one method per thing a caller wants."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx
from pydantic import BaseModel, RootModel

from api_schemas.audit import AuditPage, ConsistencyProof, InclusionProof
from api_schemas.decisions import (
    Approval,
    Decline,
    Extension,
    Revocation,
    Revoked,
)
from api_schemas.events import EventPage, EventType, JobEvent
from api_schemas.jobs import JobPage, JobStatus, JobView
from api_schemas.methods import MethodView
from api_schemas.patches import PatchView
from api_schemas.reasons import ApprovalReason, DeclineReason, ExtensionReason, RevocationReason
from api_schemas.reports import Report
from api_schemas.requests import UnlearnRequest
from api_schemas.service import Readiness, Version
from api_schemas.shelf import ModelList, ModelRecord, ModelView, VersionList
from api_schemas.webhooks import DeliveryPage, DeliveryView, WebhookList, WebhookSecret, WebhookView
from client import downloads, evidence, listening, submission, watching
from client.exchange import Exchange, parsed, segment

#: How long the service may read weights of a size that it takes, from a slow disk.
HASHING_SECONDS: Final = 600.0


class _Methods(RootModel[list[MethodView]]):
    """The catalog is a bare list."""


class Client:
    """A connection to one service, to be used as a context manager; not shared between threads.

    ``api_key`` goes with every request; so does a token of the service's identity provider in its
    place. ``timeout`` is in seconds, for connecting and for each silence of the service. Every call
    may raise ``ProblemError`` and, after a few retries, ``ServiceUnreachable``.
    """

    def __init__(
        self,
        base_url: str,
        timeout: float = 60.0,
        *,
        api_key: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._exchange = Exchange(base_url, timeout, transport, api_key)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; idempotent."""
        self._exchange.close()

    def submit(
        self,
        request: UnlearnRequest,
        samples: Sequence[bytes | Path],
        probe_samples: Sequence[bytes | Path] = (),
        idempotency_key: str | None = None,
    ) -> JobView:
        """The job of this request, exactly one however often the call had to be repeated.

        The key holds for this call alone unless you give one: with a key of your own, a repetition
        after a crash is the same job too. File names are not sent. Raises ``OSError`` for a path
        that cannot be read.

        Pictures of several targets follow each other in the targets' order, and each target says
        how many are its own::

            request = UnlearnRequest(
                model="reference-clip",
                targets=(
                    Target(name="Mara Venn", samples=len(mara)),
                    Target(name="Oskar Brill", samples=len(oskar)),
                ),
            )
            job = client.submit(request, [*mara, *oskar])
        """
        files = submission.parts(request, samples, probe_samples)
        headers = submission.idempotent(idempotency_key)
        response = self._exchange.send("POST", "/unlearn", files=files, headers=headers)
        return parsed(response, JobView)

    def job(self, job_id: str, wait_seconds: float | None = None) -> JobView:
        """Where the job stands: now, or at its next change within ``wait_seconds`` (up to 60)."""
        response = watching.look(self._exchange, job_id, wait_seconds=wait_seconds or 0)
        return parsed(response, JobView)

    def wait(
        self,
        job_id: str,
        on_change: Callable[[JobView], object] | None = None,
        timeout: float | None = None,
    ) -> JobView:
        """The finished job; ``on_change`` sees it as it is now, and again at every change.

        Bears a service that is away for up to ``watching.PATIENCE_SECONDS``. Raises
        ``WaitTimeout`` after ``timeout`` seconds.
        """
        return watching.watch(self._exchange, job_id, on_change, timeout)

    def events(self, job_id: str, after: int = 0) -> Iterator[JobEvent]:
        """Each of the job's events as it happens, up to the final one; after ``after`` alone.

        Each comes once and in order, through breaks and restarts of the service: it bears one that
        is away for up to ``watching.PATIENCE_SECONDS``. Raises ``ServiceUnreachable`` beyond that.
        """
        return listening.events(self._exchange, job_id, after)

    def history(self, job_id: str, after: int = 0, limit: int = 100) -> EventPage:
        """What has happened to the job so far; pass ``next`` as ``after`` for the following."""
        params = {"after": after, "limit": limit}
        return parsed(
            self._exchange.get(f"/jobs/{segment(job_id)}/events", params=params), EventPage
        )

    def jobs(
        self,
        *,
        limit: int = 20,
        cursor: str | None = None,
        status: JobStatus | None = None,
        model: str | None = None,
    ) -> JobPage:
        """One page of jobs, newest first; pass ``next`` of a page as ``cursor`` for the following.

        The filters must stay the same from page to page.
        """
        asked = {"limit": limit, "cursor": cursor, "status": status, "model": model}
        params = {name: value for name, value in asked.items() if value is not None}
        response = self._exchange.get("/jobs", params=params)
        return parsed(response, JobPage)

    def cancel(self, job_id: str) -> JobView:
        """The job, canceled or about to be; idempotent. A finished job is a ``ProblemError``."""
        response = self._exchange.send("POST", f"/jobs/{segment(job_id)}/cancel")
        return parsed(response, JobView)

    def report_page(self, job_id: str) -> bytes:
        """The evaluation as one HTML page that needs nothing else; it names no target."""
        return self._exchange.get(f"/jobs/{segment(job_id)}/report.html").content

    def retry(self, job_id: str) -> JobView:
        """The job, to be run again after a failure, a refusal of the gate or a cancellation.

        Idempotent while the new run lasts. A ``ProblemError`` when the job succeeded, is not
        finished, or has no pictures any more.
        """
        response = self._exchange.send("POST", f"/jobs/{segment(job_id)}/retry")
        return parsed(response, JobView)

    def approve(self, job_id: str, reason: ApprovalReason | None = None) -> JobView:
        """The job, no longer waiting for approval; idempotent. Your own is a ``ProblemError``."""
        return self._decide(f"/jobs/{segment(job_id)}/approve", Approval(reason=reason))

    def decline(self, job_id: str, reason: DeclineReason | None = None) -> JobView:
        """The job, canceled because nobody may run it; idempotent, refused as ``approve`` is."""
        return self._decide(f"/jobs/{segment(job_id)}/decline", Decline(reason=reason))

    def extend(
        self, job_id: str, reason: ExtensionReason, until: datetime | None = None
    ) -> JobView:
        """The job with its legal deadline put off: as far as the law allows, or until then.

        Idempotent; any second extension is a ``ProblemError``.
        """
        body = Extension(reason=reason, until=until)
        return self._decide(f"/jobs/{segment(job_id)}/extend", body)

    def evaluation(self, job_id: str) -> Report:
        """What the run found out; a ``ProblemError`` while there is none."""
        response = self._exchange.get(f"/jobs/{segment(job_id)}/evaluation")
        return parsed(response, Report)

    def models(self) -> ModelList:
        """Every model that can be edited."""
        return parsed(self._exchange.get("/models"), ModelList)

    def model(self, model_id: str) -> ModelView:
        """One model."""
        response = self._exchange.get(f"/models/{segment(model_id)}")
        return parsed(response, ModelView)

    def versions(self, model_id: str) -> VersionList:
        """The model's line of versions, oldest first."""
        response = self._exchange.get(f"/models/{segment(model_id)}/versions")
        return parsed(response, VersionList)

    def revoke(self, model_id: str, number: int, reason: RevocationReason) -> Revoked:
        """The version is out of the model's line; the answer lists what went along. Idempotent."""
        response = self._exchange.send(
            "POST",
            f"{_version(model_id, number)}/revoke",
            json=Revocation(reason=reason).model_dump(mode="json"),
        )
        return parsed(response, Revoked)

    def add_model(self, record: ModelRecord) -> ModelView:
        """The model on the service's shelf; its paths lie in the service's models folder.

        Waits for minutes: the service reads the whole weights before it answers.
        """
        body = record.model_dump(mode="json", exclude_unset=True)
        patient = httpx.Timeout(self._exchange.timeout_seconds, read=HASHING_SECONDS)
        answer = self._exchange.send("POST", "/models", json=body, timeout=patient)
        return parsed(answer, ModelView)

    def methods(self) -> list[MethodView]:
        """Every unlearning method with the JSON schema of its parameters."""
        return parsed(self._exchange.get("/methods"), _Methods).root

    def patch(self, patch_id: str) -> PatchView:
        """The patch with its manifest."""
        response = self._exchange.get(f"/patches/{segment(patch_id)}")
        return parsed(response, PatchView)

    def download_patch(self, patch_id: str, folder: Path) -> PatchView:
        """``manifest.json`` and ``patch.safetensors`` are in ``folder``, and belong together.

        Each appears under its name only when it is complete and its digest was checked. Raises
        ``DigestError``, ``OSError``.
        """
        return downloads.patch(self._exchange, patch_id, folder)

    def download_weights(self, patch_id: str, path: Path) -> Path:
        """The whole patched weights are at ``path``; a broken download goes on where it broke off.

        Also across calls: what came so far waits beside ``path`` under a name of its own. Raises
        ``OSError``.
        """
        return downloads.weights(self._exchange, f"/patches/{segment(patch_id)}", path)

    def download_version(self, model_id: str, number: int, path: Path) -> Path:
        """The same for a version of a model, 0 being the weights as registered."""
        return downloads.weights(self._exchange, _version(model_id, number), path)

    def weights_are_a_folder(self, patch_id: str) -> bool:
        """Whether ``download_weights`` gives a tar of a folder rather than one safetensors file."""
        return downloads.is_tar(self._exchange, f"/patches/{segment(patch_id)}")

    def version_is_a_folder(self, model_id: str, number: int) -> bool:
        """The same for ``download_version``."""
        return downloads.is_tar(self._exchange, _version(model_id, number))

    def evidence(self, job_id: str, folder: Path) -> Path:
        """The job's evidence is in ``folder``, which is new: what `razor verify` checks.

        A ``ProblemError`` for a job without a published patch. Raises ``UnsafeArchive``,
        ``FileExistsError``, ``OSError``.
        """
        return evidence.download(self._exchange, job_id, folder)

    def audit(self, *, after: int | None = None, limit: int = 100) -> AuditPage:
        """Lines of your tenant with an index above ``after``, oldest first.

        Go on with ``next`` of the page, or later with the index of the last line you saw.
        """
        params = {"limit": limit} | ({} if after is None else {"after": after})
        return parsed(self._exchange.get("/audit", params=params), AuditPage)

    def audit_checkpoint(self) -> str:
        """The log's size and tree head, as a signed note; keep it for later comparison."""
        return self._exchange.get("/audit/checkpoint").text

    def audit_proof(self, index: int, size: int | None = None) -> InclusionProof:
        """That the line is in the log of ``size`` lines (of all when None)."""
        params = {} if size is None else {"size": size}
        return parsed(self._exchange.get(f"/audit/proof/{index}", params=params), InclusionProof)

    def audit_consistency(self, first: int, second: int) -> ConsistencyProof:
        """That the log of ``second`` lines begins with that of ``first``."""
        params = {"from": first, "to": second}
        return parsed(self._exchange.get("/audit/consistency", params=params), ConsistencyProof)

    def audit_key(self) -> str:
        """The public key that signs evidence, as PEM."""
        return self._exchange.get("/audit/key").text

    def add_webhook(self, url: str, events: Iterable[EventType] | None = None) -> WebhookSecret:
        """A new webhook, told about these types of events or about all, and its secret.

        Not sent again when the answer is lost: list the webhooks then. To check what arrives use
        any Standard Webhooks library with this secret.
        """
        body = {"url": url} | _types(events)
        return parsed(
            self._exchange.send("POST", "/webhooks", retry=False, json=body), WebhookSecret
        )

    def webhooks(self) -> WebhookList:
        """The tenant's webhooks, oldest first."""
        return parsed(self._exchange.get("/webhooks"), WebhookList)

    def webhook(self, webhook_id: str) -> WebhookView:
        """One webhook."""
        return parsed(self._exchange.get(f"/webhooks/{segment(webhook_id)}"), WebhookView)

    def enable_webhook(self, webhook_id: str, enabled: bool = True) -> WebhookView:
        """The webhook, enabled or disabled; idempotent."""
        return self._change(webhook_id, {"enabled": enabled})

    def filter_webhook(self, webhook_id: str, events: Iterable[EventType] | None) -> WebhookView:
        """The webhook, from now on told about these types of events, or about all (None)."""
        return self._change(webhook_id, {"events": None} | _types(events))

    def remove_webhook(self, webhook_id: str) -> None:
        """The webhook is gone. One that was gone before is a ``ProblemError``."""
        self._exchange.send("DELETE", f"/webhooks/{segment(webhook_id)}", retry=False)

    def rotate_webhook_secret(self, webhook_id: str) -> WebhookSecret:
        """A new secret; the old one signs too until ``previous_until``. Not sent again if lost."""
        address = f"/webhooks/{segment(webhook_id)}/rotate-secret"
        return parsed(self._exchange.send("POST", address, retry=False), WebhookSecret)

    def test_webhook(self, webhook_id: str) -> DeliveryView:
        """A test message that is sent soon; see ``deliveries`` for what became of it."""
        response = self._exchange.send("POST", f"/webhooks/{segment(webhook_id)}/test")
        return parsed(response, DeliveryView)

    def deliveries(
        self, webhook_id: str, *, limit: int = 20, cursor: str | None = None
    ) -> DeliveryPage:
        """One page of the webhook's messages with their attempts, newest first."""
        params: dict[str, int | str] = {"limit": limit}
        if cursor is not None:
            params["cursor"] = cursor
        address = f"/webhooks/{segment(webhook_id)}/deliveries"
        return parsed(self._exchange.get(address, params=params), DeliveryPage)

    def replay_delivery(self, webhook_id: str, delivery_id: str) -> DeliveryView:
        """The message is sent again, under its old id."""
        address = f"/webhooks/{segment(webhook_id)}/deliveries/{segment(delivery_id)}/replay"
        return parsed(self._exchange.send("POST", address), DeliveryView)

    def _change(self, webhook_id: str, change: dict[str, Any]) -> WebhookView:
        address = f"/webhooks/{segment(webhook_id)}"
        return parsed(self._exchange.send("PATCH", address, json=change), WebhookView)

    def readyz(self) -> Readiness:
        """Whether requests can be accepted; a service that is not ready answers too."""
        response = self._exchange.send("GET", "/readyz", retry=False, accept=frozenset({503}))
        return parsed(response, Readiness)

    def version(self) -> Version:
        """What runs there."""
        return parsed(self._exchange.get("/version"), Version)

    def metrics(self) -> str:
        """The service's figures in Prometheus' text format."""
        return self._exchange.get("/metrics").text

    def _decide(self, path: str, body: BaseModel) -> JobView:
        sent = body.model_dump(mode="json", exclude_none=True)
        return parsed(self._exchange.send("POST", path, json=sent), JobView)


def _version(model_id: str, number: int) -> str:
    return f"/models/{segment(model_id)}/versions/{number}"


def _types(events: Iterable[EventType] | None) -> dict[str, Any]:
    return {} if events is None else {"events": [EventType(kind).value for kind in events]}
