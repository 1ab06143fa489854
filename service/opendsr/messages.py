"""The answers and callbacks: their bytes, and the headers that say who signed them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel
from starlette.responses import Response

from api_schemas.jobs import Outcome
from api_schemas.opendsr import (
    API_VERSION,
    FIRST_API_VERSION,
    Callback,
    CancellationReceipt,
    Receipt,
    StatusAnswer,
    StatusNote,
)
from registry.opendsr import Case, Notice
from service.opendsr.signing import Signer

JSON: Final = "application/json"
SIGNATURE_FIELD: Final = "processor_signature"

_REASONS: Final[dict[Outcome, str]] = {
    Outcome.NOTHING_TO_FORGET: "The model does not know the target, so there was nothing to erase.",
    Outcome.GATE_REFUSED: "The edited model did not pass its checks, so it was not published; the "
    "processor has to run the request again with other settings.",
}
#: Ends that need no word beyond the status.
_PLAIN: Final = (None, Outcome.PATCHED, Outcome.CANCELED)
_ENDED: Final = "The request ended without an edited model; ask the processor what comes next."


@dataclass(frozen=True, slots=True)
class Names:
    """How a version of the specification calls its headers, and itself."""

    version: int
    api_version: str
    prefix: str


OPENGDPR: Final = Names(1, FIRST_API_VERSION, "X-OpenGDPR")
OPENDSR: Final = Names(2, API_VERSION, "X-OpenDSR")
BY_VERSION: Final[Mapping[int, Names]] = {names.version: names for names in (OPENGDPR, OPENDSR)}


@dataclass(frozen=True, slots=True)
class Processor:
    """Who answers: the domain it stands for, and the key it signs with."""

    domain: str
    signer: Signer

    def headers(self, body: bytes, names: Names) -> dict[str, str]:
        """The headers that sign these bytes as they are sent."""
        return {
            f"{names.prefix}-Processor-Domain": self.domain,
            f"{names.prefix}-Signature": self.signer.sign(body),
        }

    def answer(self, body: bytes, names: Names, *, status: int) -> Response:
        """The bytes as a signed answer that nobody keeps."""
        headers = {"cache-control": "no-store", **self.headers(body, names)}
        return Response(body, status_code=status, headers=headers, media_type=JSON)

    def receipt(self, case: Case, request_body: bytes) -> bytes:
        """What the first answer to this request was, and every later one is.

        It is made again from the repeated request's own bytes, so that they need not be kept.
        """
        return self._sealed(
            Receipt(
                controller_id=case.tenant,
                expected_completion_time=case.expected_at,
                received_time=case.received_at,
                encoded_request=base64.b64encode(request_body).decode(),
                subject_request_id=case.subject_request_id,
                processor_signature="",
            )
        )

    def cancellation(self, case: Case, received_at: datetime) -> bytes:
        """That the request is cancelled."""
        return self._sealed(
            CancellationReceipt(
                controller_id=case.tenant,
                received_time=received_at,
                subject_request_id=case.subject_request_id,
                processor_signature="",
            )
        )

    def status(self, case: Case, names: Names) -> bytes:
        """Where the request stands now."""
        return as_json(
            StatusAnswer(
                controller_id=case.tenant,
                expected_completion_time=case.expected_completion_at,
                subject_request_id=case.subject_request_id,
                request_status=case.standing.status,
                api_version=names.api_version,
                extensions={self.domain: _note(case)},
            ).model_dump(mode="json")
        )

    def _sealed(self, receipt: BaseModel) -> bytes:
        """The receipt with the signature of itself without that field, which comes last."""
        unsigned = receipt.model_dump(mode="json", exclude={SIGNATURE_FIELD})
        return as_json(unsigned | {SIGNATURE_FIELD: self.signer.sign(as_json(unsigned))})


def callback(notice: Notice) -> bytes:
    """What this address is told."""
    case = notice.case
    return as_json(
        Callback(
            controller_id=case.tenant,
            expected_completion_time=case.expected_completion_at,
            status_callback_url=notice.url,
            subject_request_id=case.subject_request_id,
            request_status=case.standing.status,
        ).model_dump(mode="json")
    )


def as_json(content: Mapping[str, Any]) -> bytes:
    """The one form in which bodies are signed: fields in order, no spaces, UTF-8."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def _note(case: Case) -> StatusNote:
    code, reason = None, None
    if case.error is not None:
        code, reason = case.error.code, case.error.message
    elif case.outcome not in _PLAIN:
        code, reason = case.outcome.value, _REASONS.get(case.outcome, _ENDED)
    return StatusNote(job_id=case.job_id, code=code, reason=reason)
