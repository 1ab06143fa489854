"""What travels through the broker: a wake-up that holds a job's id, and nothing of worth."""

from __future__ import annotations

from typing import Final

RUN_TASK: Final = "razor.run"
QUEUE: Final = "razor"
