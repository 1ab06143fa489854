"""Messages to webhooks, sent: what is due is taken, signed, posted, and what came of it is noted.

Several fronts may do so at once: a message is one sender's until its claim runs out.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Final

from api_schemas.webhooks import PING, DeliveryFailure, DeliveryStatus
from registry import deliveries
from registry.deliveries import Claimed, Result
from service import logs, metrics, views
from service.parts import Parts, now
from service.sealing import UnreadableSecret

logger = logging.getLogger("razor.webhooks")

#: Taken at once, and how many of them for one endpoint: one that hangs delays the others, but
#: cannot starve them.
BATCH: Final = 16
EACH: Final = 4
THREADS: Final = 8
#: Twice as long as a round whose every server and every name server hangs.
CLAIM_SECONDS: Final = 120.0


def deliver(parts: Parts, clock: Callable[[], datetime] = now) -> None:
    """Every message that is due has been tried, or is somebody else's, or stays for the next round.

    Sent outside of any transaction. A sender that dies before it has noted the result leaves a
    message that is sent again when its claim runs out: at least once.
    """
    with parts.database.transaction() as session:
        claimed = deliveries.claim(
            session, limit=BATCH, each=EACH, lease_seconds=CLAIM_SECONDS, now=clock()
        )
    if not claimed:
        return
    with ThreadPoolExecutor(THREADS, thread_name_prefix="razor-send") as pool:
        # list: an error in one of the threads is raised here, after all of them have ended.
        list(pool.map(functools.partial(_deliver, parts, clock), claimed))


def _deliver(parts: Parts, clock: Callable[[], datetime], message: Claimed) -> None:
    if parts.stopping.is_set():
        with parts.database.transaction() as session:
            deliveries.give_back(session, message.id, message.token, clock())
        return
    result = _send(parts, message, clock())
    with parts.database.transaction() as session:
        status = deliveries.settle(session, message.id, message.token, result, now=clock())
    if status is None:
        return
    outcome = metrics.FAILED if status is DeliveryStatus.PENDING else status.value
    parts.measures.webhook_deliveries.labels(outcome).inc()
    if status is DeliveryStatus.DEAD:
        logger.warning("webhook message is dead", extra={"code": _why(result)})


def _send(parts: Parts, message: Claimed, moment: datetime) -> Result:
    body = payload(message)
    try:
        headers = signed(parts, message, moment, body)
    except UnreadableSecret as exc:
        logger.error("a webhook's secret cannot be read", extra={"error": logs.describe(exc)})
        return Result(failure=DeliveryFailure.SECRET_UNREADABLE)
    return parts.sender.post(message.url, headers, body.encode())


def payload(message: Claimed) -> str:
    """The body, the same at every attempt: type, timestamp of the event, and states and ids."""
    event = message.event
    if event is None:
        data: dict[str, Any] = {"webhook_id": message.webhook_id}
        content = {"type": PING, "timestamp": message.created_at.isoformat(), "data": data}
    else:
        told = event.data.model_dump(mode="json")
        urls = views.job_urls(event.job_id, event.data.patch_id).model_dump(mode="json")
        data = {"job_id": event.job_id, "event_id": event.id, **told, "urls": urls}
        content = {"type": event.type.value, "timestamp": event.at.isoformat(), "data": data}
    return json.dumps(content, separators=(",", ":"))


def signed(parts: Parts, message: Claimed, moment: datetime, body: str) -> dict[str, str]:
    """The headers of this attempt, with one signature per secret that is valid now."""
    from standardwebhooks import Webhook

    signatures = [
        Webhook(parts.sealer.open(secret.sealed)).sign(message.id, moment, body)
        for secret in reversed(message.secrets)
    ]
    return {
        "content-type": "application/json",
        "user-agent": f"razor/{metrics.version()}",
        "webhook-id": message.id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _why(result: Result) -> str:
    return str(result.status_code) if result.failure is None else result.failure.value
