"""``python -m service``: serve the front on the address that the settings name."""

from __future__ import annotations

import logging
import sys
import threading
from types import FrameType

import uvicorn

from registry.settings import Settings
from service import logs
from service.app import create_app
from service.connections import TimedProtocol

logger = logging.getLogger("razor.service")

#: How long answers under way may take after the signal to stop; waiting ones return at once.
GRACE_SECONDS = 10
STARTUP_FAILED = 3


class Server(uvicorn.Server):
    """Tells long polls to answer as soon as a signal to stop comes, not only after they end."""

    def __init__(self, config: uvicorn.Config, stopping: threading.Event) -> None:
        super().__init__(config)
        self._stopping = stopping

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to wind down."""
        self._stopping.set()
        super().handle_exit(sig, frame)


def warn_if_public(settings: Settings) -> None:
    """Say once that keys and pictures must not travel between machines in the clear."""
    if settings.is_public:
        logger.warning("reachable from other machines: a proxy with TLS must stand in front")


def main() -> int:
    """Serve until a signal comes; the exit code says whether the start succeeded."""
    settings = Settings()
    logs.configure()
    warn_if_public(settings)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=TimedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    parts = app.state.parts
    # The first request does not wait for them.
    parts.decoders.warm(int(parts.submissions.total_tokens))
    server = Server(config, parts.stopping)
    server.run()
    return 0 if server.started else STARTUP_FAILED


if __name__ == "__main__":
    sys.exit(main())
