"""``python -m worker``: one prefork worker with one child, for one device."""

from __future__ import annotations

import logging
import os

# SIGTERM puts the running job back at once instead of waiting for it. Read by Celery on import.
os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")
# Nothing is ever fetched: models come from local folders.
os.environ["HF_HUB_OFFLINE"] = "1"
# Without it cuBLAS may give other bits for the same product. Read when CUDA starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
# On some machines MKL takes one thread for its products where torch has asked for all. Read when it
# is loaded.
os.environ.setdefault("MKL_DYNAMIC", "FALSE")
# Threads that spin while they wait for each other take a busy machine's cores from whom they wait
# for: beside one other process a job took four times as long. Read when OpenMP is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def main() -> None:
    """Runs until it is told to stop."""
    from registry.settings import Settings
    from worker.app import make_app
    from worker.measures import exporter_of

    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(process)d %(message)s"
    )
    settings = Settings()
    app = make_app(settings, exporter_of(settings))
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
