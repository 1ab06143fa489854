"""``/jobs/{id}/events``: a job's history, as JSON or as a stream that resumes where it broke."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from api_schemas.base import Input
from api_schemas.events import EventPage, JobEvent
from api_schemas.jobs import JobStatus
from registry import events, jobs
from registry.errors import JobNotFound
from service import answers, documentation, errors, examples
from service.access import Caller, Reader
from service.parameters import JobId
from service.parts import Parts, PartsOf

router = APIRouter(tags=["jobs"])

#: Shorter than the minute after which proxies cut a silent connection.
KEEP_ALIVE_SECONDS: Final = 15.0
#: Then the listener has to come back, and show again that it may listen.
MAX_STREAM_SECONDS: Final = 3600.0
BATCH: Final = 100
STREAM: Final = "text/event-stream"
MAX_NUMBER: Final = 2**31 - 1

_ID: Final = re.compile(r"[0-9]{1,10}")
#: A refusal in the list, such as ``text/event-stream;q=0``.
_REFUSED: Final = re.compile(r";\s*q\s*=\s*0(\.0*)?\s*(;|$)")

LastEventId = Annotated[
    str | None,
    Header(alias="Last-Event-ID", description="The id of the last event you have; counts in both."),
]
Accept = Annotated[str | None, Header(include_in_schema=False)]

_ANSWERS: Final[documentation.Responses] = {
    200: {
        "description": "The history; or, if you accept it, the stream: each event with id, event "
        "(its type) and data (the same JSON as an item of the history).",
        "content": {STREAM: {"schema": {"type": "string"}, "example": examples.STREAM}},
        "headers": {"Link": {"description": 'rel="next", if any.', "schema": {"type": "string"}}},
    },
    204: {"description": "Only for streams: you have the final event, so do not come back."},
}


class Part(Input):
    """Which part of the history."""

    after: int = Field(
        default=0, ge=0, le=MAX_NUMBER, description="The id of the last event you have."
    )
    limit: int = Field(default=BATCH, ge=1, le=BATCH, description="Of the JSON form only.")


@router.get(
    "/jobs/{job_id}/events",
    response_model=EventPage,
    summary="What happened to a job, and what happens",
    responses=_ANSWERS
    | documentation.problems_of(JobNotFound, errors.InvalidLastEventId, errors.InvalidRequest),
)
async def read_events(
    parts: PartsOf,
    caller: Reader,
    job_id: JobId,
    query: Annotated[Part, Query()],
    last_event_id: LastEventId = None,
    accept: Accept = None,
) -> Response:
    """The job's events, oldest first; ids are 1, 2, 3, ... without a gap.

    With ``Accept: text/event-stream`` they come as they happen. The stream ends after the final
    event, when the service stops, and after an hour: come back with ``Last-Event-ID``. Nothing is
    lost in between, because the events are kept. After a final event only a retry follows.
    """
    wants_stream = _accepts_stream(accept)
    limit = BATCH if wants_stream else query.limit
    after = query.after if last_event_id is None else _number(last_event_id)
    status, latest = await run_in_threadpool(_first_look, parts, caller, job_id)
    if last_event_id is not None and after > latest:
        raise errors.InvalidLastEventId
    found = await run_in_threadpool(_look, parts, caller, job_id, after, limit + 1)
    if not wants_stream:
        return _history(job_id, found, limit)
    if status.is_final and not found:
        return Response(status_code=204)
    return EventSourceResponse(
        _stream(parts, caller, job_id, after),
        # no-store: what has been streamed to one caller is no answer for another.
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


def _history(job_id: str, found: list[JobEvent], limit: int) -> Response:
    following = found[limit - 1].id if len(found) > limit else None
    headers = {}
    if following is not None:
        headers["link"] = f'</jobs/{job_id}/events?after={following}&limit={limit}>; rel="next"'
    return answers.json_answer(EventPage(items=found[:limit], next=following), headers=headers)


async def _stream(parts: Parts, caller: Caller, job_id: str, after: int) -> AsyncIterator[bytes]:
    started = heard = time.monotonic()
    over, news = False, True
    # At once, so that whoever listens knows that it is connected.
    yield KEEPALIVE_COMMENT
    while True:
        # Only where there is something: a database that is away does not end a silent stream.
        found = await run_in_threadpool(_look, parts, caller, job_id, after, BATCH) if news else []
        for event in found:
            yield _encoded(event)
            after, heard = event.id, time.monotonic()
        if found:
            over = found[-1].is_final
        # A final event in the middle is one that a retry followed.
        if (over and len(found) < BATCH) or parts.stopping.is_set():
            return
        present = time.monotonic()
        if present - started >= MAX_STREAM_SECONDS:
            return
        if present - heard >= KEEP_ALIVE_SECONDS:
            heard = present
            yield KEEPALIVE_COMMENT
        if len(found) < BATCH:
            quiet = min(heard + KEEP_ALIVE_SECONDS, started + MAX_STREAM_SECONDS) - present
            news = await parts.histories.changed(job_id, after, max(0.0, quiet))


def _encoded(event: JobEvent) -> bytes:
    return format_sse_event(
        data_str=event.model_dump_json(), event=event.type.value, id=str(event.id)
    )


def _first_look(parts: Parts, caller: Caller, job_id: str) -> tuple[JobStatus, int]:
    with parts.database.reading() as session:
        status = jobs.get(session, job_id, caller.tenant).status
        return status, events.latest(session, job_id)


def _look(parts: Parts, caller: Caller, job_id: str, after: int, limit: int) -> list[JobEvent]:
    with parts.database.reading() as session:
        return events.after(session, job_id, after, tenant=caller.tenant, limit=limit)


def _number(last_event_id: str) -> int:
    if not _ID.fullmatch(last_event_id) or int(last_event_id) > MAX_NUMBER:
        raise errors.InvalidLastEventId
    return int(last_event_id)


def _accepts_stream(accept: str | None) -> bool:
    ranges = [part.strip().lower() for part in (accept or "").split(",")]
    return any(
        part.partition(";")[0].strip() == STREAM and not _REFUSED.search(part) for part in ranges
    )
