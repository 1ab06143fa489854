"""The Celery application, and the one task: a wake-up that says "look into the database"."""

from __future__ import annotations

import ctypes
import functools
import logging
import signal
import sys
from typing import Any

from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown, worker_ready

from api_schemas.messages import RUN_TASK
from registry.settings import Settings
from worker import telling
from worker.measures import Exporter

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1  # linux/prctl.h
START_SECONDS = 180.0  # a cold disk takes long to import torch; Celery's default is 4
#: How long a killed child's message waits for a result from before the kill, and the worker with
#: it. Celery's default is 10; here no result ever comes this way, the database has it.
LOST_SECONDS = 1.0


def make_app(settings: Settings, exporter: Exporter | None = None) -> Celery:
    """The consuming side of the queue, configured as the producing side is.

    ``exporter`` hears of what the child does; without one nobody does.
    """
    app = Celery("razor")
    app.conf.update(settings.celery_config())
    app.conf.worker_proc_alive_timeout = START_SECONDS
    app.conf.worker_lost_wait = LOST_SECONDS
    app.conf.worker_soft_shutdown_timeout = 5.0
    app.conf.worker_hijack_root_logger = False
    app.conf.worker_send_task_events = False

    def run(job_id: str) -> None:
        """Claim the most urgent job, whichever it is, and see it through."""
        from worker import release
        from worker.runner import work

        log.info("woken for %s", job_id)
        try:
            work(settings)
        except release.OtherRelease as other:
            # The job was not touched: it waits in the database for a worker that fits.
            log.error("%s", other)
            if other.worker_is_old:
                release.stop_worker()

    app.task(run, name=RUN_TASK)
    locks: list[Any] = []
    worker_ready.connect(functools.partial(_parent_is_ready, locks), weak=False)
    worker_process_init.connect(functools.partial(_child_starts, exporter, locks), weak=False)
    worker_process_shutdown.connect(_child_stops, weak=False)
    return app


def _parent_is_ready(locks: list[Any], sender: Any, **_: object) -> None:
    """Remember the locks that only the child ever takes: whoever replaces it inherits the list."""
    pool = sender.pool._pool
    for queue, lock in (("_inqueue", "_rlock"), ("_outqueue", "_wlock")):
        # With a broker like Redis there are pipes for each child instead, and no locks.
        if (found := getattr(getattr(pool, queue, None), lock, None)) is not None:
            locks.append(found)


def _child_starts(exporter: Exporter | None, locks: list[Any], **_: object) -> None:
    """Die with the parent, and import the science before the first job rather than in it."""
    for lock in locks:
        # A child that is killed while it waits for a task holds the queue's lock for ever. There is
        # one child, so nobody else can hold it now.
        lock.acquire(block=False)
        lock.release()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if exporter is not None:
        exporter.leave_to_parent()
    telling.say(child="started")
    import worker.runner  # noqa: F401


def _child_stops(**_: object) -> None:
    from worker.runner import close

    close()
