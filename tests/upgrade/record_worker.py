"""Writes down what the worker of a release says to the database; run with that release's code.

    PYTHONPATH=CHECKOUT_OF_THE_RELEASE python tests/upgrade/record_worker.py OUT.json

The golden folder is brought to that release's tables; then a job is claimed, kept alive and ended.
"""

from __future__ import annotations

import base64
import json
import shutil
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import event

from api_schemas.jobs import JobStatus, Outcome
from registry import installation, jobs
from registry.database import Database

GOLDEN = Path(__file__).parent / "golden" / "first"
START = datetime(2026, 12, 1, tzinfo=UTC)


def plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    return value


def record(folder: Path) -> dict[str, Any]:
    database = Database(f"sqlite:///{folder}/razor.db", installation.load(folder / "razor.key"))
    database.migrate()
    with database.transaction() as session:
        jobs.reap(session, max_attempts=3, now=START)
    said: list[list[Any]] = []
    steps: dict[str, list[list[Any]]] = {}

    @event.listens_for(database._engine, "before_cursor_execute")
    def note(*heard: Any) -> None:
        _, _, statement, parameters, _, many = heard
        for row in parameters if many else [parameters]:
            said.append([statement, [plain(value) for value in row]])

    def step(name: str, do: Any) -> Any:
        said.clear()
        with database.transaction() as session:
            result = do(session)
        steps[name] = list(said)
        return result

    def at(seconds: float) -> datetime:
        return START + timedelta(seconds=seconds)

    job = step("claim", lambda s: jobs.claim(s, worker="before:1", lease_seconds=15, now=at(1)))
    beat = {"lease_seconds": 15, "phase": "edit", "fraction": 0.5, "eta_seconds": 3.0}
    step("heartbeat", lambda s: jobs.heartbeat(s, job.id, job.token, **beat, now=at(2)))
    end = {"status": JobStatus.SUCCEEDED, "outcome": Outcome.NOTHING_TO_FORGET}
    step("finish", lambda s: jobs.finish(s, job.id, job.token, **end, now=at(3)))
    return {"job": job.id, "steps": steps}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(shutil.copytree(GOLDEN, Path(scratch) / "data"))
        Path(sys.argv[1]).write_text(json.dumps(record(work), indent=1) + "\n")
