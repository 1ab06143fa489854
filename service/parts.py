"""What a running front is made of, and how an endpoint gets hold of it."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Final

from anyio import CapacityLimiter
from fastapi import Depends, Request

from registry.blobs import BlobStore
from registry.database import Database
from registry.jobs import Standing
from registry.settings import Settings
from service.broker import Broker
from service.decoders import Decoders
from service.guard import Guard
from service.metrics import Measures
from service.opendsr.signing import Signer
from service.outbound import Sender
from service.sealing import Sealer
from service.watching import Watch

#: For all requests together.
STORING_THREADS: Final = 8


@dataclass(frozen=True, slots=True)
class Parts:
    """One front's parts, shared by its threads.

    ``submissions`` bounds how many requests are decoded at once, to the cores there are, and with
    them the ``decoders``; the others wait without a thread. ``storing`` has the threads that wait
    for the disk or the store, which start when they are needed. ``sealer`` is for webhooks,
    ``signer`` signs the OpenDSR facade's answers and callbacks, ``sender`` posts to both.
    ``stopping`` is set when the process winds down. ``histories`` tells who waits for a job's next
    event, by the number of the last one; ``standings`` tells who waits for its next step.
    ``probes`` bounds how many checks of readiness run.
    """

    settings: Settings
    database: Database
    blobs: BlobStore
    broker: Broker
    measures: Measures
    guard: Guard
    sealer: Sealer
    sender: Sender
    signer: Signer
    decoders: Decoders
    histories: Watch[int]
    standings: Watch[Standing]
    submissions: CapacityLimiter = field(
        default_factory=lambda: CapacityLimiter(max(1, os.cpu_count() or 1))
    )
    storing: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(STORING_THREADS, "razor-store")
    )
    probes: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(16))
    stopping: threading.Event = field(default_factory=threading.Event)


def now() -> datetime:
    """The present, aware, in UTC."""
    return datetime.now(UTC)


async def _of(request: Request) -> Parts:
    # async, because FastAPI would send a plain function to the thread pool for nothing.
    parts = request.app.state.parts
    assert isinstance(parts, Parts)
    return parts


PartsOf = Annotated[Parts, Depends(_of)]
