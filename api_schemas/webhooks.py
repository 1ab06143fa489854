"""Webhooks: where a tenant wants to be told, and what became of each message."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints

from api_schemas.base import Input, Output
from api_schemas.events import EventType

#: What a test sends; no event of a job.
PING: Final = "webhook.ping"
MAX_URL_CHARACTERS: Final = 2000


def _address(url: str) -> str:
    """Pass an address with a host, a sane port and nothing that hides where it leads."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("give a whole address, such as https://example.org/hook") from None
    if not parts.hostname or port == 0:
        raise ValueError("give a whole address, such as https://example.org/hook")
    if parts.username is not None or parts.password is not None or "#" in url or "\\" in url:
        raise ValueError("leave out user names, passwords, fragments and backslashes")
    return url


WebhookUrl = Annotated[
    str,
    StringConstraints(pattern=r"^https?://[!-~]+$", max_length=MAX_URL_CHARACTERS),
    AfterValidator(_address),
]
EventTypes = Annotated[tuple[EventType, ...], Field(min_length=1, max_length=len(EventType))]


class WebhookInput(Input):
    """A new endpoint."""

    url: WebhookUrl = Field(
        description="https, and on a public address; ASCII only.",
        examples=["https://example.org/hooks/razor"],
    )
    events: EventTypes | None = Field(
        default=None, description="The types to tell about; every type when left out."
    )


class WebhookChange(Input):
    """What to change; what is left out stays."""

    enabled: bool | None = Field(
        default=None, description="false: nothing is sent until it is true again."
    )
    events: EventTypes | None = Field(
        default=None, description="The types to tell about; null: every type."
    )


class DisabledReason(StrEnum):
    """Why nothing is sent to an endpoint."""

    BY_CALLER = "by_caller"
    GONE = "gone"


class WebhookView(Output):
    """An endpoint. ``disabled_reason`` is ``gone`` when it answered 410."""

    id: str
    url: str
    events: list[EventType] | None
    enabled: bool
    disabled_reason: DisabledReason | None
    created_at: datetime


class WebhookList(Output):
    """The tenant's endpoints, oldest first."""

    items: list[WebhookView]


class WebhookSecret(Output):
    """The secret to check signatures with. It is shown this once.

    ``previous_until`` is how long the secrets before it go on signing too.
    """

    webhook: WebhookView
    secret: str
    previous_until: datetime | None


class DeliveryStatus(StrEnum):
    """Where a message stands. ``dead``: it was tried as often as it is going to be."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


class DeliveryFailure(StrEnum):
    """Why an attempt got no answer."""

    ADDRESS_REFUSED = "address_refused"
    NAME_UNRESOLVED = "name_unresolved"
    UNREACHABLE = "unreachable"
    TLS_FAILED = "tls_failed"
    TIMED_OUT = "timed_out"
    BROKEN_ANSWER = "broken_answer"
    SECRET_UNREADABLE = "secret_unreadable"


class AttemptView(Output):
    """One attempt: the answer's status code, or why there was no answer."""

    number: int
    at: datetime
    status_code: int | None
    failure: DeliveryFailure | None


class DeliveryView(Output):
    """One message to one endpoint; ``id`` is its ``webhook-id`` at every attempt."""

    id: str
    webhook_id: str
    type: str
    job_id: str | None
    event_id: int | None
    status: DeliveryStatus
    created_at: datetime
    next_attempt_at: datetime | None
    attempts: list[AttemptView]


class DeliveryPage(Output):
    """One page of an endpoint's messages, newest first."""

    items: list[DeliveryView]
    next: str | None
