"""One example of everything that calls and answers carry, for the OpenAPI document.

By the name of the schema, so that every call which has that schema has its example. A test holds
each against its schema, every field given, and says which schema of the document has none.
"""

from __future__ import annotations

import json
from typing import Any, Final

_JOB: Final = "job_0123456789abcdef0123456789abcdef"
_PATCH: Final = "pat_0123456789abcdef0123456789abcdef"
_MODEL: Final = "reference-clip"
_DIGEST: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_RECEIVED: Final = "2031-03-01T09:00:00Z"
_STARTED: Final = "2031-03-01T09:00:02Z"
_FINISHED: Final = "2031-03-01T09:00:41Z"

PAGE: Final = '<!doctype html>\n<html lang="en"><title>Unlearning report</title> ... </html>\n'
PEM: Final = "-----BEGIN PUBLIC KEY-----\n...\n-----END PUBLIC KEY-----\n"
NOTE: Final = (
    "razor/log\n128\nn4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=\n\n"
    "\N{EM DASH} razor/log Zm9yIHRoZSBzaGFwZSBvbmx5\n"
)

CERTIFICATE: Final = PEM.replace("PUBLIC KEY", "CERTIFICATE")

#: A privacy platform's request, but for what its ``extensions`` say under this domain.
DOMAIN: Final = "razor.example"
_SUBJECT_REQUEST: Final = "a7551968-d5d6-44b2-9831-815ac9017798"
SUBJECT_REQUEST: Final[dict[str, Any]] = {
    "regulation": "gdpr",
    "subject_request_id": _SUBJECT_REQUEST,
    "subject_request_type": "erasure",
    "submitted_time": "2031-02-28T17:30:00Z",
    "subject_identities": [
        {
            "identity_type": "controller_customer_id",
            "identity_value": "17",
            "identity_format": "raw",
        }
    ],
    "api_version": "2.0",
    "status_callback_urls": ["https://controller.example/opendsr_callbacks"],
}
_CANCELLATION: Final = {
    "controller_id": "default",
    "received_time": _RECEIVED,
    "subject_request_id": _SUBJECT_REQUEST,
    "processor_signature": "MEUCIQDk...",
}


def _measured(value: float, low: float, high: float, n: int) -> dict[str, Any]:
    return {"value": value, "n": n, "interval": [low, high]}


_PREFLIGHT: Final = {
    "target": 0,
    "known": True,
    "accuracy": _measured(100.0, 61.0, 100.0, 6),
    "chance": 3.4,
    "sample_similarity": 0.55,
    "kin_similarity": 0.59,
    "stranger_similarity": 0.18,
}
_METRIC: Final = {
    "id": "M1",
    "target": 0,
    "name": "forget accuracy",
    "definition": "Share of the target's test pictures whose best zero-shot class, over all names, "
    "is still the target.",
    "unit": "percent",
    "better": "lower",
    "before": _measured(100.0, 91.6, 100.0, 42),
    "after": _measured(0.0, 0.0, 8.4, 42),
    "change": _measured(-100.0, -100.0, -88.1, 42),
}
_GATE: Final = {
    "verdict": "pass",
    "weak_evidence": True,
    "checks": [
        {
            "metric": "M1",
            "rule": "after at most",
            "threshold": 5.0,
            "found": 0.0,
            "passed": True,
            "weak": True,
        }
    ],
}
_ROLES: Final = {
    "target_fit": 4,
    "target_select": 2,
    "target_test": 42,
    "retain_fit": 392,
    "retain_select": 196,
    "retain_test": 196,
    "target_digest": _DIGEST,
    "retain_digest": _DIGEST,
}
_EDITED: Final = {"unit": "text.1.out", "step_ratio": 0.24}
_REPORT: Final = {
    "model": _MODEL,
    "model_version": 0,
    "method": "razor",
    "seed": 0,
    "roles": _ROLES,
    "preflight": [_PREFLIGHT],
    "metrics": [_METRIC],
    "robustness": [_METRIC | {"id": "M1_int8", "name": "forget accuracy, 8 bits"}],
    "earlier": [{"version": 1, "metric": _METRIC | {"id": "M1_earlier"}}],
    "gate": _GATE,
    "scores": [
        {
            "target": 0,
            "unit": "text.1.out",
            "score": 0.031,
            "forget_norm": 0.42,
            "weight_norm": 11.5,
            "cosine": 0.12,
            "chosen": 0,
        }
    ],
    "edited": [_EDITED],
    "weights_changed": 16384,
    "weights_total": 1742337,
    "patch_bytes": 32768,
    "pictures": [],
    "estimate": None,
    "warnings": [],
    "cost": {
        "wall_seconds": 38.2,
        "phase_seconds": {"preflight": 2.1, "edit": 31.0, "evaluate": 5.1},
        "forward_passes": 410,
        "backward_passes": 96,
        "peak_memory_bytes": 812646400,
        "phase_processor_seconds": {"preflight": 3.9, "edit": 60.2, "evaluate": 9.7},
    },
}
_JOB_VIEW: Final = {
    "id": _JOB,
    "status": "succeeded",
    "outcome": "patched",
    "model": _MODEL,
    "method": "razor",
    "priority": 0,
    "regulation": "gdpr",
    "subject_request_id": "case-17",
    "dry_run": False,
    "metadata": {},
    "subjects": [_DIGEST],
    "erased_at": _FINISHED,
    "progress": {"phase": "store", "fraction": 1.0, "eta_seconds": None},
    "created_at": _RECEIVED,
    "started_at": _STARTED,
    "finished_at": _FINISHED,
    "due_at": "2031-04-01T09:00:00Z",
    "extended_from": None,
    "extension_reason": None,
    "approval": {
        "decision": "approved",
        "reason": "identity_verified",
        "decided_at": "2031-03-01T09:00:01Z",
    },
    "retries": 0,
    "rerun_of": None,
    "attempts": 1,
    "error": None,
    "result": {
        "verdict": "pass",
        "patch_id": _PATCH,
        "model_version": 1,
        "revoked_at": None,
        "rerun": None,
    },
    "urls": {
        "self": f"/jobs/{_JOB}",
        "cancel": f"/jobs/{_JOB}/cancel",
        "events": f"/jobs/{_JOB}/events",
        "retry": f"/jobs/{_JOB}/retry",
        "evaluation": f"/jobs/{_JOB}/evaluation",
        "report": f"/jobs/{_JOB}/report.html",
        "patch": f"/patches/{_PATCH}",
        "patch_file": f"/patches/{_PATCH}/patch.safetensors",
        "weights": f"/patches/{_PATCH}/weights",
        "evidence": f"/jobs/{_JOB}/evidence",
    },
}
_PATCH_VIEW: Final = {
    "id": _PATCH,
    "job_id": _JOB,
    "created_at": "2031-03-01T09:00:41+00:00",
    "published": True,
    "model_version": 1,
    "manifest": {
        "format_version": 1,
        "model": {
            "id": _MODEL,
            "family": "clip",
            "checkpoint_digest": f"sha256:{_DIGEST}",
            "parent": 0,
            "parent_patches": [],
        },
        "tensors": [
            {
                "key": "transformer.resblocks.1.attn.out_proj.weight",
                "file": "open_clip_model.safetensors",
                "tensor": "transformer.resblocks.1.attn.out_proj.weight",
                "dtype": "F16",
                "shape": [128, 128],
                "slice": None,
                "sha256_before": _DIGEST,
                "sha256_after": _DIGEST,
            }
        ],
        "patch_sha256": _DIGEST,
        "patch_bytes": 32768,
        "units": [_EDITED],
        "provenance": {
            "method": {"method": "razor", "tau": 0.5},
            "seed": 0,
            "libraries": {"torch": "2.15.0"},
            "device": "cpu",
            "dtype": "float16",
            "threads": 1,
        },
        "roles": _ROLES,
        "metrics": [_METRIC],
        "gate": _GATE,
    },
}
_MODEL_VIEW: Final = {
    "id": _MODEL,
    "family": "clip",
    "digest": f"sha256:{_DIGEST}",
    "domains": ["name", "scene"],
    "methods": ["razor", "slug"],
    "thresholds": {
        "forget_accuracy_max": 5.0,
        "utility_drop_max": 2.0,
        "neighbour_drop_max": 10.0,
        "stability_min": 90.0,
        "cross_domain_drop_max": 5.0,
    },
    "latest_version": 1,
    "created_at": _RECEIVED,
}
_VERSION: Final = {
    "model": _MODEL,
    "patch_id": None,
    "job_id": None,
    "created_at": _RECEIVED,
    "revoked_at": None,
    "revoked_reason": None,
    "revoked_with": None,
}
_MODEL_RECORD: Final = {
    "id": _MODEL,
    "family": "clip",
    "checkpoint": "reference-clip/weights",
    "digest": f"sha256:{_DIGEST}",
    "retain": {"folder": "reference-clip/retain"},
    "judge": None,
    "prompts": {"name": ["a photo of {}"]},
    "questions": {},
    "thresholds": _MODEL_VIEW["thresholds"],
    "device": "auto",
}
_LINE: Final = {
    "index": 41,
    "at": "2031-03-01T09:00:41.000000Z",
    "tenant": "default",
    "actor": "worker:gpu-1:4711",
    "action": "job.succeeded",
    "object_type": "job",
    "object_id": _JOB,
    "details": {"outcome": "patched"},
    "leaf_hash": _DIGEST,
}

_EVENT: Final = {
    "id": 7,
    "type": "job.succeeded",
    "job_id": _JOB,
    "at": _FINISHED,
    "data": {
        "status": "succeeded",
        "outcome": "patched",
        "phase": "store",
        "attempt": 1,
        "error_code": None,
        "patch_id": _PATCH,
        "model_version": 1,
    },
}
#: One message of a stream of events.
STREAM: Final = f"id: 7\nevent: job.succeeded\ndata: {json.dumps(_EVENT)}\n\n"
_WEBHOOK: Final = {
    "id": "whk_0123456789abcdef0123456789abcdef",
    "url": "https://example.org/hooks/razor",
    "events": ["job.succeeded", "job.rejected", "job.failed"],
    "enabled": True,
    "disabled_reason": None,
    "created_at": _RECEIVED,
}
_DELIVERY: Final = {
    "id": "msg_0123456789abcdef0123456789abcdef",
    "webhook_id": _WEBHOOK["id"],
    "type": "job.succeeded",
    "job_id": _JOB,
    "event_id": 7,
    "status": "delivered",
    "created_at": _FINISHED,
    "next_attempt_at": None,
    "attempts": [{"number": 1, "at": _FINISHED, "status_code": 204, "failure": None}],
}

#: Name of a schema in the document -> an example of it with every field.
BY_SCHEMA: Final[dict[str, Any]] = {
    "JobView": _JOB_VIEW,
    "JobPage": {"items": [_JOB_VIEW], "next": None},
    "Report": _REPORT,
    "PatchView": _PATCH_VIEW,
    "ModelView": _MODEL_VIEW,
    "ModelList": {"items": [_MODEL_VIEW]},
    "VersionList": {
        "items": [
            _VERSION | {"number": 0, "parent": None},
            _VERSION | {"number": 1, "parent": 0, "patch_id": _PATCH, "job_id": _JOB},
        ]
    },
    "MethodView": {
        "method": "razor",
        "summary": "Scores layers and heads by forget/retain gradients, edits only those.",
        "families": ["clip", "diffusion", "vlm"],
        "parameters": {"properties": {"tau": {"type": "number", "default": 0.5}}},
        "defaults": {"clip": {"tau": 0.5}},
    },
    "AuditPage": {"items": [_LINE], "next": 41},
    "InclusionProof": {"index": 41, "size": 128, "hashes": [_DIGEST]},
    "ConsistencyProof": {"first": 64, "second": 128, "hashes": [_DIGEST]},
    "EventPage": {"items": [_EVENT], "next": None},
    "WebhookInput": {"url": _WEBHOOK["url"], "events": _WEBHOOK["events"]},
    "WebhookChange": {"enabled": False, "events": None},
    "WebhookView": _WEBHOOK,
    "WebhookList": {"items": [_WEBHOOK]},
    "WebhookSecret": {
        "webhook": _WEBHOOK,
        "secret": "whsec_...",
        "previous_until": "2031-03-02T09:00:00Z",
    },
    "DeliveryView": _DELIVERY,
    "DeliveryPage": {"items": [_DELIVERY], "next": None},
    "Approval": {"reason": "identity_verified"},
    "Decline": {"reason": "not_entitled"},
    "Extension": {"reason": "complexity", "until": "2031-05-01T09:00:00Z"},
    "Revocation": {"reason": "wrong_target"},
    "Revoked": {
        "model": _MODEL,
        "version": 1,
        "reason": "wrong_target",
        "revoked_at": "2031-03-02T08:00:00Z",
        "latest_version": 0,
        "affected": [{"version": 2, "job_id": _JOB, "state": "post_again", "rerun": None}],
    },
    "ModelRecord": _MODEL_RECORD,
    "Discovery": {
        "api_version": "2.0",
        "supported_identities": [],
        "supported_subject_request_types": ["erasure"],
        "processor_certificate": f"https://{DOMAIN}/opendsr/v2/certificate",
    },
    "Receipt": _CANCELLATION
    | {"expected_completion_time": "2031-04-01T09:00:00Z", "encoded_request": "eyJyZWd1bGF0..."},
    "CancellationReceipt": _CANCELLATION,
    "StatusAnswer": {
        "controller_id": "default",
        "expected_completion_time": "2031-04-01T09:00:00Z",
        "subject_request_id": _SUBJECT_REQUEST,
        "request_status": "in_progress",
        "api_version": "2.0",
        "extensions": {DOMAIN: {"job_id": _JOB, "code": None, "reason": None}},
    },
    "Health": {"status": "ok"},
    "Readiness": {
        "status": "degraded",
        "checks": {"database": "ok", "storage": "ok", "broker": "failed"},
    },
    "Version": {"name": "razor", "version": "0.1.0", "patch_format": 1},
    "ProblemType": {
        "type": "/problems/job-not-found",
        "title": "No such job",
        "status": 404,
        "detail": "There is no such job.",
        "retryable": False,
    },
}
