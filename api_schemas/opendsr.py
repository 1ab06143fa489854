"""OpenDSR 2.0: what privacy platforms send to a processor, and what it answers.

Field names and values are the specification's. What RAZOR needs beyond them (the model, the
target, the pictures) is in ``extensions``, under the processor's own domain.
"""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from api_schemas.base import Input, Output

API_VERSION: Final = "2.0"
FIRST_API_VERSION: Final = "1.0"
#: Our choices; the specification sets no limits.
MAX_CALLBACKS: Final = 10
MAX_IDENTITIES: Final = 100
MAX_IDENTITY_CHARACTERS: Final = 1000
MAX_URL_CHARACTERS: Final = 2000

#: A UUID of version 4 in lower case, as the specification wants every id.
SUBJECT_REQUEST_ID: Final = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_MOMENT: Final = r"^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$"


class Law(StrEnum):
    """The law that a request rests on."""

    GDPR = "gdpr"
    CCPA = "ccpa"


class RequestType(StrEnum):
    """What a data subject can ask for. RAZOR does the first."""

    ERASURE = "erasure"
    PORTABILITY = "portability"
    ACCESS = "access"


class RequestStatus(StrEnum):
    """Where a request stands, in the specification's four words."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class Standing(StrEnum):
    """The same, one word finer: ``stopped`` is an end without success, which OpenDSR lacks."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    STOPPED = "stopped"
    COMPLETED = "completed"
    CANCELLED = "cancelled"

    @property
    def status(self) -> RequestStatus:
        """The specification's word: what has stopped is not completed, so it is in progress."""
        if self is Standing.STOPPED:
            return RequestStatus.IN_PROGRESS
        return RequestStatus(self.value)


class IdentityType(StrEnum):
    """What kind of name an identity is. There is none for a face."""

    CONTROLLER_CUSTOMER_ID = "controller_customer_id"
    ANDROID_ADVERTISING_ID = "android_advertising_id"
    ANDROID_ID = "android_id"
    EMAIL = "email"
    FIRE_ADVERTISING_ID = "fire_advertising_id"
    IOS_ADVERTISING_ID = "ios_advertising_id"
    IOS_VENDOR_ID = "ios_vendor_id"
    MICROSOFT_ADVERTISING_ID = "microsoft_advertising_id"
    MICROSOFT_PUBLISHER_ID = "microsoft_publisher_id"
    ROKU_PUBLISHER_ID = "roku_publisher_id"
    ROKU_ADVERTISING_ID = "roku_advertising_id"


class IdentityFormat(StrEnum):
    """How an identity is written."""

    RAW = "raw"
    SHA1 = "sha1"
    MD5 = "md5"
    SHA256 = "sha256"


def _https(url: str) -> str:
    """Pass an https address with a host, and without anything that could be a credential."""
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    # A browser reads a backslash as a slash, a parser does not: neither may find another host.
    if not usable or parts.username is not None or "#" in url or "\\" in url:
        words = "Give a whole https address, without user name, password and fragment."
        raise PydanticCustomError("callback_url", words)
    return url


def _moment(value: Any) -> Any:
    """Let only text of RFC 3339 through: numbers and bare dates would be read as moments too."""
    if not isinstance(value, str) or not re.match(_MOMENT, value, re.ASCII):
        words = "Give a moment as RFC 3339 has it, such as 2026-03-01T12:00:00Z."
        raise PydanticCustomError("moment", words)
    return value


CallbackUrl = Annotated[
    str,
    StringConstraints(pattern=r"^https://[!-~]+$", max_length=MAX_URL_CHARACTERS),
    AfterValidator(_https),
]


class Identity(Input):
    """A name under which the controller knows the data subject. Read, and kept nowhere."""

    identity_type: IdentityType
    identity_value: str = Field(max_length=MAX_IDENTITY_CHARACTERS, repr=False)
    identity_format: IdentityFormat


class SubjectRequest(Input):
    """A data subject's request, as its controller sends it."""

    regulation: Law | None = Field(
        default=None, description="Required, except under the names of version 1: there GDPR."
    )
    subject_request_id: Annotated[str, StringConstraints(pattern=f"^{SUBJECT_REQUEST_ID}$")] = (
        Field(
            description="A UUID of version 4 in lower case, made by the controller.",
            examples=["a7551968-d5d6-44b2-9831-815ac9017798"],
        )
    )
    subject_request_type: RequestType
    submitted_time: Annotated[AwareDatetime, BeforeValidator(_moment)] = Field(
        description="When the data subject asked."
    )
    subject_identities: tuple[Identity, ...] = Field(
        default=(),
        max_length=MAX_IDENTITIES,
        repr=False,
        description="Accepted and not used: a model knows a person by name and face, which are in "
        "`extensions`.",
    )
    api_version: Annotated[str, StringConstraints(pattern=r"^[0-2](\.[0-9]{1,3}){0,2}$")] | None = (
        Field(default=None, examples=[API_VERSION])
    )
    status_callback_urls: tuple[CallbackUrl, ...] = Field(
        default=(),
        max_length=MAX_CALLBACKS,
        repr=False,
        description="Told of every change of the status; https only.",
    )
    extensions: dict[str, Any] = Field(
        default_factory=dict,
        repr=False,
        description="By processor's domain. Under ours the fields of `POST /unlearn` in its JSON "
        "form: `model`, `target` or `targets`, `samples`, and if you like `method` and the rest; "
        "without `regulation`, `subject_request_id` and `dry_run`. Others' entries are ignored.",
    )


class IdentityKind(Output):
    """A kind of identity that a processor can look for."""

    identity_type: IdentityType
    identity_format: IdentityFormat


class Discovery(Output):
    """What this processor can do. It looks for nobody by an identity, so it supports none."""

    api_version: str
    supported_identities: list[IdentityKind]
    supported_subject_request_types: list[RequestType]
    processor_certificate: str


class Receipt(Output):
    """The answer to an accepted request. ``encoded_request`` is its body in base64.

    ``processor_signature`` signs the answer without that field; the header signs all of it.
    """

    controller_id: str
    expected_completion_time: datetime
    received_time: datetime
    encoded_request: str = Field(repr=False)
    subject_request_id: str
    processor_signature: str


class CancellationReceipt(Output):
    """The answer to a cancellation that was accepted; signed as a ``Receipt`` is."""

    controller_id: str
    received_time: datetime
    subject_request_id: str
    processor_signature: str


class StatusNote(Output):
    """What the four statuses cannot say. ``code`` is stable; ``reason`` says what to do next."""

    job_id: str
    code: str | None
    reason: str | None


class StatusAnswer(Output):
    """Where a request stands; ``extensions`` holds one note, under our domain."""

    controller_id: str
    expected_completion_time: datetime
    subject_request_id: str
    request_status: RequestStatus
    api_version: str
    extensions: dict[str, StatusNote]


class Callback(Output):
    """What is posted to each callback address when the status changes."""

    controller_id: str
    expected_completion_time: datetime
    status_callback_url: str
    subject_request_id: str
    request_status: RequestStatus


class ErrorDetail(Output):
    """One thing that is wrong. ``reason`` is stable; ``domain`` is the type of the problem."""

    domain: str
    reason: str
    message: str


class Refusal(Output):
    """Why a request was refused. ``code`` is the HTTP status."""

    code: int
    message: str
    errors: list[ErrorDetail]


class RefusalAnswer(Output):
    """The specification's form of an error. It repeats nothing that was sent."""

    error: Refusal
