"""A privacy platform: the requests it sends, and how it checks what it gets back."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from fastapi.testclient import TestClient
from front_world import MODEL, SECRET_NAME, pictures

DOMAIN = "razor.example"
V2 = "/opendsr/v2"
REQUESTS = f"{V2}/requests"
CALLBACK = "https://controller.example/opendsr_callbacks"
#: In no other text of the project, so that finding it anywhere means that it leaked.
SECRET_IDENTITY = "quillon.vexmere@person.example"


def new_id() -> str:
    return str(uuid.uuid4())


def entry(**changes: Any) -> dict[str, Any]:
    """What stands under our domain. A change to None leaves the field out."""
    samples = [base64.b64encode(sample).decode() for sample in pictures(3)]
    return _changed({"model": MODEL, "target": {"name": SECRET_NAME}, "samples": samples}, changes)


def subject_request(**changes: Any) -> dict[str, Any]:
    """A request as a controller writes it. A change to None leaves the field out."""
    identity = {
        "identity_type": "email",
        "identity_value": SECRET_IDENTITY,
        "identity_format": "raw",
    }
    asked = {
        "regulation": "gdpr",
        "subject_request_id": new_id(),
        "subject_request_type": "erasure",
        "submitted_time": "2026-03-01T12:00:00Z",
        "subject_identities": [identity],
        "api_version": "2.0",
        "status_callback_urls": [CALLBACK],
        "extensions": {DOMAIN: entry(), "other-processor.example": {"property": 7}},
    }
    return _changed(asked, changes)


def _changed(fields: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (fields | changes).items() if value is not None}


def post(http: TestClient, asked: dict[str, Any], path: str = REQUESTS) -> httpx.Response:
    # As many platforms write it: the bytes matter, so they are made here and not by the client.
    body = json.dumps(asked, indent=1).encode()
    return http.post(path, content=body, headers={"Content-Type": "application/json"})


def sent(http: TestClient, **changes: Any) -> str:
    """The id of a request that was accepted."""
    asked = subject_request(**changes)
    answer = post(http, asked)
    assert answer.status_code == 201, answer.text
    return str(asked["subject_request_id"])


def certificate_of(http: TestClient) -> x509.Certificate:
    """Where discovery says that it is."""
    address = http.get(f"{V2}/discovery").json()["processor_certificate"]
    return x509.load_pem_x509_certificate(http.get(address).content)


def verify(certificate: x509.Certificate, signature: str, data: bytes) -> None:
    """Raises ``InvalidSignature``."""
    key = certificate.public_key()
    decoded = base64.b64decode(signature, validate=True)
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(decoded, data, padding.PKCS1v15(), hashes.SHA256())
    else:
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(decoded, data, ec.ECDSA(hashes.SHA256()))


def verify_headers(
    certificate: x509.Certificate, answer: httpx.Response, prefix: str = "X-OpenDSR"
) -> None:
    assert answer.headers[f"{prefix}-Processor-Domain"] == DOMAIN
    verify(certificate, answer.headers[f"{prefix}-Signature"], answer.content)


def verify_field(certificate: x509.Certificate, answer: httpx.Response) -> None:
    """The signature in the body is that of the body without it."""
    fields = answer.json()
    signature = fields.pop("processor_signature")
    rest = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    verify(certificate, signature, rest)
