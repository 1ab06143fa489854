"""What the front does between requests: wake-ups, jobs taken back, webhooks, forgetting.

Each of these runs in a thread of its own. Several processes may do so at once: messages may
be delivered twice, and a second delivery is harmless.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from registry import deliveries, drafts, failpoints, jobs, leftovers, outbox, personal, sealing
from registry.errors import BlobMissing
from service import logs
from service.delivery import Courier
from service.metrics import REAPED
from service.opendsr import callbacks
from service.parts import Parts, now

logger = logging.getLogger("razor.background")

BATCH: Final = 100
MAX_PAUSE_SECONDS: Final = 30.0
#: How long stopping waits for a round that is under way, such as a broker's connect timeout.
STOP_SECONDS: Final = 10.0
#: How old a file must be to belong to nobody who is still at work: far above any request's time.
LEFTOVER_SECONDS: Final = 3600.0


def relay(parts: Parts) -> None:
    """Every waiting wake-up has reached the broker, or stays for the next round.

    Sent outside of any transaction, so that a slow broker never holds the database. Raises
    whatever the broker raises, after the messages sent before are marked.
    """
    with parts.database.transaction() as session:
        messages = outbox.pending(session, BATCH)
    sent: list[int] = []
    try:
        for message in messages:
            parts.broker.send(message.job_id)
            failpoints.reach(failpoints.Point.DURING_RELAY)
            sent.append(message.id)
    finally:
        if sent:
            with parts.database.transaction() as session:
                outbox.mark_sent(session, sent, now())
            parts.measures.published.inc(len(sent))


def reap(parts: Parts) -> None:
    """No job stays with a worker whose lease has expired."""
    with parts.database.transaction() as session:
        reaped = jobs.reap(session, max_attempts=parts.settings.max_attempts, now=now())
    for outcome in REAPED:
        job_ids = getattr(reaped, outcome)
        parts.measures.reaped.labels(outcome).inc(len(job_ids))
        for job_id in job_ids:
            logger.warning("lease expired", extra={"job_id": job_id, "code": outcome})


def reconcile(parts: Parts) -> None:
    """No job waits in the database for a message that the broker has lost."""
    with parts.database.transaction() as session:
        count = outbox.resend(
            session, after_seconds=parts.settings.resend_after_seconds, limit=BATCH, now=now()
        )
    parts.measures.resent.inc(count)
    if count:
        logger.info("wake-ups sent again", extra={"count": count})


def forget(parts: Parts) -> None:
    """Nothing personal outlives its time: it cannot be opened, and then its files are gone.

    Raises ``NotScrubbed`` while a reader keeps old rows in the database's files; then the next
    round does it all again.
    """
    with parts.database.transaction() as session:
        over = personal.due(session, limit=BATCH, now=now())
    if not over:
        return
    for one in over:
        for digest in one.blobs:
            parts.blobs.delete(digest)
    if not parts.database.scrub():
        raise NotScrubbed
    with parts.database.transaction() as session:
        personal.note_erased(session, over, now())
    logger.info("personal data deleted", extra={"count": len(over)})


def sweep(parts: Parts) -> None:
    """What crashes left behind is gone: half-written files, pictures and patches of nobody's.

    Only what is older than ``LEFTOVER_SECONDS``: younger files may be a request under way.
    """
    before = now() - timedelta(seconds=LEFTOVER_SECONDS)
    stale = [digest for digest in parts.blobs.stale(before) if _is_picture(parts, digest)]
    if stale:
        with parts.database.transaction() as session:
            needed = personal.needed_blobs(session)
        for digest in stale:
            if digest not in needed:
                parts.blobs.delete(digest)
    _sweep_drafts(parts, before)
    parts.blobs.sweep(before)
    leftovers.remove(parts.settings.work_folder, before)


def prune(parts: Parts) -> None:
    """The log of webhooks does not grow for good: what was settled long ago is gone."""
    before = now() - timedelta(days=parts.settings.webhook_log_days)
    while not parts.stopping.is_set():
        with parts.database.transaction() as session:
            count = deliveries.prune(session, before=before, limit=BATCH)
        if count < BATCH:
            return


def _sweep_drafts(parts: Parts, before: datetime) -> None:
    """Patch files whose jobs have ended without them are gone; see ``registry.drafts``."""
    with parts.database.reading() as session:
        digests = drafts.abandoned(session, before=before, limit=BATCH)
    for digest in digests:
        with parts.database.transaction() as session:
            if drafts.drop(session, digest, before=before):
                parts.blobs.delete(digest)


def _is_picture(parts: Parts, digest: str) -> bool:
    """Whether the blob is a sealed picture: other blobs, such as patches, are others' to delete."""
    try:
        with parts.blobs.open(digest) as file:
            return sealing.is_picture(file.read(len(sealing.PICTURE_MARK)))
    except BlobMissing:
        return False


class NotScrubbed(Exception):
    """The database's files may still hold what was deleted, because somebody reads them."""


class Loop:
    """Runs ``action`` every ``interval_seconds`` in a thread, whatever it raises.

    Failures double the pause, up to ``MAX_PAUSE_SECONDS``; only the first of a row is logged.
    """

    def __init__(
        self,
        name: str,
        action: Callable[[], None],
        interval_seconds: float,
        failed: Callable[[], None],
    ) -> None:
        self._name = name
        self._action = action
        self._interval_seconds = interval_seconds
        self._failed = failed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"razor-{name}", daemon=True)

    def start(self) -> None:
        """The first round begins at once."""
        self._thread.start()

    def stop(self) -> None:
        """No further round begins; waiting is for :meth:`join`."""
        self._stop.set()

    def join(self, timeout_seconds: float) -> None:
        """The round under way has ended, or the time is over."""
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                self._action()
            except Exception as exc:  # A loop that dies is worse than any error it could meet.
                failures += 1
                self._report(failures, exc)
            else:
                if failures:
                    logger.info("works again", extra={"loop": self._name, "count": failures})
                failures = 0
            self._stop.wait(self._pause_seconds(failures))

    def _pause_seconds(self, failures: int) -> float:
        # The exponent is capped first: 2.0 ** 1100 would raise.
        longest = max(MAX_PAUSE_SECONDS, self._interval_seconds)
        return float(min(longest, self._interval_seconds * 2 ** min(failures, 20)))

    def _report(self, failures: int, exc: Exception) -> None:
        self._failed()
        if failures == 1:
            details = {"loop": self._name, "error": logs.describe(exc)}
            logger.warning("failed, trying again until it works", extra=details)


class Background:
    """The loops of a front, started and stopped together."""

    def __init__(self, parts: Parts) -> None:
        settings = parts.settings
        intervals = {
            relay: settings.relay_seconds,
            reap: settings.recovery_seconds,
            reconcile: settings.recovery_seconds,
            forget: settings.recovery_seconds,
            sweep: settings.sweep_seconds,
            prune: settings.sweep_seconds,
            callbacks.tell: settings.opendsr_seconds,
        }
        self._courier = Courier(parts)
        self._loops = [
            _loop(parts, action.__name__, functools.partial(action, parts), interval_seconds)
            for action, interval_seconds in intervals.items()
        ]
        self._loops.append(_loop(parts, "deliver", self._courier.deliver, settings.webhook_seconds))

    def start(self) -> None:
        """Every loop runs."""
        for loop in self._loops:
            loop.start()

    def stop(self) -> None:
        """No loop runs any more, unless a round takes longer than ``STOP_SECONDS``."""
        for loop in self._loops:
            loop.stop()
        for loop in self._loops:
            loop.join(STOP_SECONDS)
        self._courier.close(STOP_SECONDS)


def _loop(parts: Parts, name: str, action: Callable[[], None], interval_seconds: float) -> Loop:
    failed = parts.measures.background_failures.labels(name)
    return Loop(name, action, interval_seconds, failed.inc)
