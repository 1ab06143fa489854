"""Messages to webhooks, sent: what is due is taken, signed, posted, and what came of it is noted.

Several fronts may do so at once: a message is one sender's until its claim runs out.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime
from itertools import groupby
from types import TracebackType
from typing import Any, Final, Self

from api_schemas.webhooks import PING, DeliveryFailure, DeliveryStatus
from registry import deliveries
from registry.deliveries import Claimed, Result
from service import logs, metrics, views
from service.parts import Parts, now
from service.sealing import UnreadableSecret

logger = logging.getLogger("razor.webhooks")

#: Endpoints that are sent to side by side: one that hangs holds one of these, and nobody else up.
THREADS: Final = 16
#: Messages of one endpoint in a turn, sent one after the other; then it is another's turn.
EACH: Final = 4
#: Twice as long as a turn whose every message, and every name server, hangs.
CLAIM_SECONDS: Final = 120.0
#: What takes long to come about, and would again for the next message of the endpoint.
_SLOW: Final = (DeliveryFailure.TIMED_OUT, DeliveryFailure.NAME_UNRESOLVED)


class Courier:
    """Sends from threads of its own, one endpoint each; a context manager that waits for them.

    An endpoint is one thread's at a time, so its messages leave in the order in which they became
    due, and a receiver that hangs keeps nothing from the others.
    """

    def __init__(self, parts: Parts, clock: Callable[[], datetime] = now) -> None:
        self._parts = parts
        self._clock = clock
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="razor-send")
        #: Turns under way, by endpoint; only the caller's thread touches it.
        self._turns: dict[str, Future[None]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def deliver(self) -> None:
        """Every endpoint with a message that is due has a turn, as far as threads are free.

        Waits for none of them. Raises what a turn that has ended since has raised.
        """
        ended = [webhook_id for webhook_id, turn in self._turns.items() if turn.done()]
        turns = [self._turns.pop(webhook_id) for webhook_id in ended]
        free = THREADS - len(self._turns)
        if free and not self._parts.stopping.is_set():
            self._begin(free)
        for turn in turns:
            turn.result()

    def close(self, timeout_seconds: float | None = None) -> None:
        """Every turn has ended, or the time is over; raises what one of them has raised.

        While the front is stopping a turn ends with the attempt under way, and what it had not
        sent yet is due again.
        """
        ended, _ = wait(self._turns.values(), timeout_seconds)
        self._pool.shutdown(wait=False)
        for turn in ended:
            turn.result()

    def _begin(self, free: int) -> None:
        with self._parts.database.transaction() as session:
            claimed = deliveries.claim(
                session,
                endpoints=free,
                each=EACH,
                besides=self._turns.keys(),
                lease_seconds=CLAIM_SECONDS,
                now=self._clock(),
            )
        for webhook_id, messages in groupby(claimed, lambda message: message.webhook_id):
            self._turns[webhook_id] = self._pool.submit(self._turn, list(messages))

    def _turn(self, messages: Sequence[Claimed]) -> None:
        """One endpoint's messages in order, up to the first that waited for nothing."""
        left = list(messages)
        while left and not self._parts.stopping.is_set():
            if not self._deliver(left.pop(0)):
                break
        self._give_back(left)

    def _deliver(self, message: Claimed) -> bool:
        """Sent, and what came is noted; False: the next one would only wait as long for nothing."""
        result = _send(self._parts, message, self._clock())
        with self._parts.database.transaction() as session:
            status = deliveries.settle(
                session, message.id, message.token, result, now=self._clock()
            )
        if status is not None:
            outcome = metrics.FAILED if status is DeliveryStatus.PENDING else status.value
            self._parts.measures.webhook_deliveries.labels(outcome).inc()
        if status is DeliveryStatus.DEAD:
            logger.warning("webhook message is dead", extra={"code": _why(result)})
        return result.failure not in _SLOW

    def _give_back(self, messages: Sequence[Claimed]) -> None:
        if not messages:
            return
        with self._parts.database.transaction() as session:
            for message in messages:
                deliveries.give_back(session, message.id, message.token, self._clock())


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
        left = event.data.patch_id, event.data.model_version
        urls = views.job_urls(event.job_id, *left).model_dump(mode="json")
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
