"""Callbacks: every address that a controller named is told of every change of its request.

At least once: what an address was last told is compared with what is the case, so nothing is lost
while a front is down or an address does not answer. What changed twice in between is told once.
"""

from __future__ import annotations

import functools
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from registry import opendsr
from registry.opendsr import Notice
from service import metrics
from service.opendsr import messages
from service.opendsr.messages import JSON, Processor
from service.parts import Parts, now

logger = logging.getLogger("razor.opendsr")

#: One round: with threads for each, an address that hangs delays few others.
BATCH: Final = 32
THREADS: Final = 8


def tell(parts: Parts) -> None:
    """Every address that is due has been told, or is tried again later.

    Posts outside of any transaction. A front that dies before it has noted what it told leaves
    that to be told again.
    """
    with parts.database.transaction() as session:
        notices = opendsr.claim_notices(session, limit=BATCH, now=now())
    if not notices:
        return
    with ThreadPoolExecutor(THREADS, thread_name_prefix="razor-tell") as pool:
        # list: an error in one of the threads is raised here, after all of them have ended.
        list(pool.map(functools.partial(_tell, parts), notices))


def _tell(parts: Parts, notice: Notice) -> None:
    if parts.stopping.is_set():
        return
    body = messages.callback(notice)
    names = messages.BY_VERSION[notice.version]
    processor = Processor(parts.settings.opendsr_domain, parts.signer)
    headers = {"content-type": JSON, **processor.headers(body, names)}
    came = parts.sender.post(notice.url, headers, body)
    again = False
    with parts.database.transaction() as session:
        if came.is_success:
            opendsr.told(session, notice, now())
        else:
            again = opendsr.not_told(session, notice, now())
    outcome = metrics.DELIVERED if came.is_success else metrics.FAILED if again else metrics.DEAD
    parts.measures.callbacks.labels(outcome).inc()
    if came.is_success:
        return
    if not again or not notice.attempts:
        code = came.failure.value if came.failure is not None else came.status_code
        logger.warning(
            "callback not delivered, trying again" if again else "callback given up",
            extra={"job_id": notice.case.job_id, "code": code},
        )
