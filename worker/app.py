"""The Celery application, and the one task: a wake-up that says "look into the database"."""

from __future__ import annotations

import ctypes
import functools
import logging
import signal
import sys

from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown

from api_schemas.messages import RUN_TASK
from registry.settings import Settings
from worker import telling
from worker.measures import Exporter

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1  # linux/prctl.h
START_SECONDS = 180.0  # a cold disk takes long to import torch; Celery's default is 4


def make_app(settings: Settings, exporter: Exporter | None = None) -> Celery:
    """The consuming side of the queue, configured as the producing side is.

    ``exporter`` hears of what the child does; without one nobody does.
    """
    app = Celery("razor")
    app.conf.update(settings.celery_config())
    app.conf.worker_proc_alive_timeout = START_SECONDS
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
    worker_process_init.connect(functools.partial(_child_starts, exporter), weak=False)
    worker_process_shutdown.connect(_child_stops, weak=False)
    return app


def _child_starts(exporter: Exporter | None, **_: object) -> None:
    """Die with the parent, and import the science before the first job rather than in it."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if exporter is not None:
        exporter.leave_to_parent()
    telling.say(child="started")
    import worker.runner  # noqa: F401


def _child_stops(**_: object) -> None:
    from worker.runner import close

    close()
