"""Log lines in JSON, one per line, that cannot carry personal data.

An exception is logged as its class and its frames: messages of exceptions quote their input (a
database error quotes the row), so they are never written.
"""

from __future__ import annotations

import json
import logging
import logging.config
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final

#: The id of the request that this thread or task works for; empty outside of requests.
request_id: ContextVar[str] = ContextVar("request_id", default="")

#: What callers may pass as ``extra``; anything else is left out of the line.
FIELDS: Final = ("method", "route", "status", "seconds", "code", "loop", "count", "job_id", "error")


def describe(exc: BaseException) -> str:
    """The exception's class and where it came from, innermost last; never its message."""
    return f"{type(exc).__name__} at {_frames(exc.__traceback__)}"


def _frames(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)
    return " > ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames)


class JsonLines(logging.Formatter):
    """A record as one line of JSON: time, level, logger, message, request id, known fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; an exception becomes its class and frames."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if current := request_id.get():
            line["request_id"] = current
        line |= {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = describe(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)


def configure(level: str = "INFO") -> None:
    """Send every logger of the process to standard error as JSON lines."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"json": {"()": JsonLines}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
            "root": {"level": "WARNING", "handlers": ["stderr"]},
            "loggers": {
                "razor": {"level": level},
                "uvicorn": {"level": "INFO"},
                # The front logs each request itself, by route template and without the query.
                "uvicorn.access": {"level": "CRITICAL"},
                # Its revisions at every start are noise.
                "alembic": {"level": "WARNING"},
                # It warns that a folder has no host name; what fails is raised, and logged here.
                "kombu": {"level": "ERROR"},
            },
        }
    )
