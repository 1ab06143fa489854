"""``python -m worker``: one prefork worker with one child, for one device."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from registry.settings import Settings
    from worker.measures import Exporter

# SIGTERM puts the running job back at once instead of waiting for it. Read by Celery on import.
os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")
# Nothing is ever fetched: models come from local folders.
os.environ["HF_HUB_OFFLINE"] = "1"
# Without it cuBLAS may give other bits for the same product. Read when CUDA starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def _exporter(settings: Settings) -> Exporter | None:
    """Serves this worker's figures where the settings name a port for them."""
    port = settings.worker_metrics_port
    if port is None:
        return None
    from worker.measures import Exporter

    try:
        exporter = Exporter(settings.host, port)
    except OSError as error:
        raise SystemExit(
            f"cannot listen on {settings.host}:{port} ({error.strerror}); set "
            "RAZOR_WORKER_METRICS_PORT to another port, or to 0 for any"
        ) from error
    logging.getLogger("worker").info("figures at http://%s:%d", settings.host, exporter.port)
    return exporter


def main() -> None:
    """Runs until it is told to stop."""
    from registry.settings import Settings
    from worker.app import make_app

    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(process)d %(message)s"
    )
    settings = Settings()
    app = make_app(settings, _exporter(settings))
    app.worker_main(
        [
            "worker",
            "--pool=prefork",
            "--concurrency=1",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            "--loglevel=INFO",
        ]
    )


if __name__ == "__main__":
    main()
