"""``/webhooks``: where a tenant is told, with which secrets, and what became of each message."""

from __future__ import annotations

import base64
import secrets
from datetime import timedelta
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from api_schemas.base import Input
from api_schemas.webhooks import (
    DeliveryPage,
    DeliveryView,
    WebhookChange,
    WebhookInput,
    WebhookList,
    WebhookSecret,
    WebhookView,
)
from registry import deliveries, webhooks
from registry.errors import (
    DeliveryNotFound,
    InvalidCursor,
    TooManyWebhooks,
    WebhookDisabled,
    WebhookNotFound,
)
from service import addresses, answers, documentation, errors
from service.access import Admin
from service.parameters import DeliveryId, WebhookId
from service.parts import PartsOf, now

router = APIRouter(tags=["webhooks"])

#: How long the secret before a rotation goes on signing.
OVERLAP: Final = timedelta(hours=24)
#: Standard Webhooks asks for 24 to 64.
SECRET_BYTES: Final = 32

#: A secret is shown once; no cache may show it again.
_NOT_KEPT: Final = {"cache-control": "no-store"}
_BODY_PROBLEMS: Final = (errors.BadRequest, errors.MalformedJson, errors.InvalidRequest)


class Listing(Input):
    """How many messages at once."""

    limit: int = Field(default=20, ge=1, le=100)
    cursor: str | None = Field(
        default=None, max_length=64, description="``next`` of the page before."
    )


@router.post(
    "/webhooks",
    status_code=201,
    response_model=WebhookSecret,
    summary="Be told about jobs",
    responses=documentation.created("The webhook.")
    | documentation.problems_of(TooManyWebhooks, errors.BodyTooLarge, *_BODY_PROBLEMS),
)
def add_webhook(parts: PartsOf, caller: Admin, wanted: WebhookInput) -> Response:
    """A new endpoint of your tenant; its secret is in this answer and in no other.

    Messages follow Standard Webhooks: `webhook-id`, `webhook-timestamp` and `webhook-signature`
    over `{id}.{timestamp}.{body}`. The body has `type`, `timestamp` and `data`. An answer of 2xx
    within ten seconds is a delivery; anything else, redirects included, is tried again after 5 s,
    5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h and 24 h. An answer of 410 disables the endpoint.
    A message may come twice: its `webhook-id` is the same.
    """
    addresses.check_url(wanted.url, allow_private=parts.settings.webhook_allow_private)
    secret = _new_secret()
    sealed = parts.sealer.seal(secret)
    with parts.database.transaction() as session:
        view = webhooks.add(
            session,
            **caller.name(),
            url=wanted.url,
            events=wanted.events,
            sealed=sealed,
            now=now(),
        )
    answer = WebhookSecret(webhook=view, secret=secret, previous_until=None)
    headers = _NOT_KEPT | {"location": f"/webhooks/{view.id}"}
    return answers.json_answer(answer, status=201, headers=headers)


@router.get(
    "/webhooks",
    response_model=WebhookList,
    summary="Your tenant's webhooks",
    responses=documentation.problems_of(),
)
def list_webhooks(parts: PartsOf, caller: Admin) -> Response:
    """The endpoints, oldest first."""
    with parts.database.transaction() as session:
        found = webhooks.every(session, caller.tenant)
    return answers.json_answer(WebhookList(items=found))


@router.get(
    "/webhooks/{webhook_id}",
    response_model=WebhookView,
    summary="One webhook",
    responses=documentation.problems_of(WebhookNotFound),
)
def read_webhook(parts: PartsOf, caller: Admin, webhook_id: WebhookId) -> Response:
    """The endpoint, without its secret."""
    with parts.database.transaction() as session:
        found = webhooks.get(session, webhook_id, caller.tenant)
    return answers.json_answer(found)


@router.patch(
    "/webhooks/{webhook_id}",
    response_model=WebhookView,
    summary="Disable, enable, or tell about other events",
    responses=documentation.problems_of(WebhookNotFound, errors.BodyTooLarge, *_BODY_PROBLEMS),
)
def change_webhook(
    parts: PartsOf, caller: Admin, webhook_id: WebhookId, wanted: WebhookChange
) -> Response:
    """What is left out stays. While an endpoint is disabled no new message is made for it.

    Messages that were waiting wait on, and are due when it is enabled again.
    """
    with parts.database.transaction() as session:
        view = webhooks.change(
            session,
            webhook_id,
            **caller.name(),
            enabled=wanted.enabled,
            events=wanted.events,
            set_events="events" in wanted.model_fields_set,
            now=now(),
        )
    return answers.json_answer(view)


@router.delete(
    "/webhooks/{webhook_id}",
    status_code=204,
    response_class=Response,
    summary="Be told no more",
    responses=documentation.problems_of(WebhookNotFound),
)
def remove_webhook(parts: PartsOf, caller: Admin, webhook_id: WebhookId) -> Response:
    """The endpoint is gone, with its secrets, the messages that waited, and its delivery log."""
    with parts.database.transaction() as session:
        webhooks.remove(session, webhook_id, **caller.name(), now=now())
    return Response(status_code=204)


@router.post(
    "/webhooks/{webhook_id}/rotate-secret",
    response_model=WebhookSecret,
    summary="A new secret",
    responses=documentation.problems_of(WebhookNotFound),
)
def rotate_secret(parts: PartsOf, caller: Admin, webhook_id: WebhookId) -> Response:
    """The new secret is in this answer and in no other; for 24 hours the old one signs as well."""
    secret = _new_secret()
    sealed = parts.sealer.seal(secret)
    moment = now()
    with parts.database.transaction() as session:
        view = webhooks.rotate(
            session,
            webhook_id,
            **caller.name(),
            sealed=sealed,
            overlap_until=moment + OVERLAP,
            now=moment,
        )
    answer = WebhookSecret(webhook=view, secret=secret, previous_until=moment + OVERLAP)
    return answers.json_answer(answer, headers=_NOT_KEPT)


@router.post(
    "/webhooks/{webhook_id}/test",
    status_code=202,
    response_model=DeliveryView,
    summary="Send a test message",
    responses=documentation.problems_of(WebhookNotFound, WebhookDisabled),
)
def test_webhook(parts: PartsOf, caller: Admin, webhook_id: WebhookId) -> Response:
    """A message of type `webhook.ping`, sent soon and tried once; see the deliveries."""
    with parts.database.transaction() as session:
        made = deliveries.test(session, webhook_id, tenant=caller.tenant, now=now())
    return answers.json_answer(made, status=202)


@router.get(
    "/webhooks/{webhook_id}/deliveries",
    response_model=DeliveryPage,
    summary="What became of each message, newest first",
    responses=documentation.linked()
    | documentation.problems_of(WebhookNotFound, InvalidCursor, errors.InvalidRequest),
)
def list_deliveries(
    parts: PartsOf, caller: Admin, webhook_id: WebhookId, query: Annotated[Listing, Query()]
) -> Response:
    """Each message with its attempts: when, and which status code came, or why none."""
    with parts.database.transaction() as session:
        found, following = deliveries.page(
            session, webhook_id, tenant=caller.tenant, limit=query.limit, cursor=query.cursor
        )
    headers = {}
    if following is not None:
        asked = urlencode({"limit": query.limit, "cursor": following})
        headers["link"] = f'</webhooks/{webhook_id}/deliveries?{asked}>; rel="next"'
    return answers.json_answer(DeliveryPage(items=found, next=following), headers=headers)


@router.post(
    "/webhooks/{webhook_id}/deliveries/{delivery_id}/replay",
    status_code=202,
    response_model=DeliveryView,
    summary="Send a message again",
    responses=documentation.problems_of(WebhookNotFound, DeliveryNotFound, WebhookDisabled),
)
def replay_delivery(
    parts: PartsOf, caller: Admin, webhook_id: WebhookId, delivery_id: DeliveryId
) -> Response:
    """The same message, under the same id, is due now; its schedule starts anew."""
    with parts.database.transaction() as session:
        made = deliveries.replay(
            session,
            webhook_id,
            delivery_id,
            **caller.name(),
            now=now(),
        )
    return answers.json_answer(made, status=202)


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
