"""The whole measurement, and what is written of it: ``load.md``, ``load.json``, a plot."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import calls, document, queues, workers

ROUNDS, QUICK_ROUNDS = 30, 8
JOBS, WORKER_ROUNDS = 32, 2
PACKAGES = ("fastapi", "starlette", "uvicorn", "sqlalchemy", "psycopg", "pydantic")


def run(postgres: str | None, *, quick: bool, told: Callable[[str], None]) -> dict[str, Any]:
    """Every row, on SQLite and, where its address is given, on PostgreSQL."""
    databases = {"SQLite": None, **({} if postgres is None else {"PostgreSQL": postgres})}
    effort = calls.Effort.quick() if quick else calls.Effort()
    found: dict[str, Any] = {
        "quick": quick,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "side": effort.side,
        "calls": [],
        "queues": [],
        "workers": [],
    }
    for name, url in databases.items():
        found["calls"] += calls.measured(name, url, effort, told)
        told(f"{name}: queues of up to {queues.LENGTHS[-1]} jobs")
        found["queues"] += queues.measured(name, url, QUICK_ROUNDS if quick else ROUNDS)
        told(f"{name}: workers")
        found["workers"] += workers.measured(
            name, url, JOBS // 2 if quick else JOBS, 1 if quick else WORKER_ROUNDS
        )
    return found


def write(found: dict[str, Any], folder: Path) -> None:
    """The document, its figures and its plot; the same figures, the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "load.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    document.draw(found["queues"], folder / document.PLOT)
    (folder / "load.md").write_text(document.text(found), encoding="utf-8")
