"""The seam to the broker: it takes wake-ups that hold a job's id, and nothing of worth."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from api_schemas.messages import RUN_TASK
from registry.settings import Settings

if TYPE_CHECKING:
    from celery import Celery

CONNECT_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 5.0
_REDIS: Final = ("redis:", "rediss:")
#: Kombu would try again for seconds before it says that nobody answers; here the outbox row waits.
_AT_ONCE: Final[dict[str, Any]] = {"max_retries": 1, "interval_start": 0, "interval_step": 0}
#: A server that falls silent must not keep the relay until its connection breaks, if it ever does.
_IN_TIME: Final[dict[str, Any]] = {
    "socket_connect_timeout": CONNECT_SECONDS,
    "socket_timeout": ANSWER_SECONDS,
}


class Broker(Protocol):
    """Where wake-ups go. Every method may raise whatever the transport raises."""

    def send(self, job_id: str) -> None:
        """The wake-up has reached the broker when this returns."""

    def ping(self) -> None:
        """The broker answers, or an exception says that it does not."""

    def faults(self) -> list[str]:
        """What an operator should change about the broker, a sentence each."""

    def close(self) -> None:
        """Nothing is left open; idempotent."""


class CeleryBroker:
    """A Celery producer: it knows the task's name, never its code."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._app: Celery | None = None

    def send(self, job_id: str) -> None:
        """Publish one wake-up, without Celery's own retries: the outbox row is the retry."""
        self._producer().send_task(RUN_TASK, args=[job_id], ignore_result=True, retry=False)

    def ping(self) -> None:
        """Open a connection and close it again, within ``CONNECT_SECONDS`` per attempt."""
        with self._producer().connection_for_write(connect_timeout=CONNECT_SECONDS) as connection:
            connection.ensure_connection(timeout=CONNECT_SECONDS, **_AT_ONCE)

    def faults(self) -> list[str]:
        """How Redis is set up, as it says itself; of other brokers nothing is asked."""
        if not self._settings.broker.startswith(_REDIS):
            return []
        with self._producer().connection_for_write(connect_timeout=CONNECT_SECONDS) as connection:
            connection.ensure_connection(timeout=CONNECT_SECONDS, **_AT_ONCE)
            return unfit(connection.default_channel.client.info())

    def close(self) -> None:
        """Give the pooled connections back."""
        with self._lock:
            if self._app is not None:
                self._app.close()
                self._app = None

    def _producer(self) -> Any:
        with self._lock:
            if self._app is None:
                # Only here: the front answers a third of a second sooner after its start.
                from celery import Celery

                self._app = Celery("razor", set_as_current=False)
                self._app.conf.update(self._settings.celery_config())
                self._app.conf.broker_transport_options |= _AT_ONCE | _IN_TIME
            return self._app


def unfit(info: Mapping[str, object]) -> list[str]:
    """What is wrong with a Redis that says this of itself (``INFO``, which any user may ask).

    Neither loses a job: the reconciler sends again what nobody came for. Both cost time.
    """
    found = []
    if info.get("maxmemory_policy") != "noeviction":
        found.append(
            "Redis drops wake-ups when its memory is full; set maxmemory-policy noeviction"
        )
    if info.get("aof_enabled") != 1:
        found.append("Redis forgets wake-ups when it restarts; set appendonly yes")
    return found


class MemoryBroker:
    """The same in memory, for tests and single-process runs; ``down`` makes it refuse."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.down = False
        self._lock = threading.Lock()

    def send(self, job_id: str) -> None:
        """Keep the wake-up in ``sent``. Raises ``ConnectionError`` while down."""
        self.ping()
        with self._lock:
            self.sent.append(job_id)

    def ping(self) -> None:
        """Raise ``ConnectionError`` while down."""
        if self.down:
            raise ConnectionError

    def faults(self) -> list[str]:
        """None."""
        return []

    def close(self) -> None:
        """Nothing to close."""
