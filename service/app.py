"""The application: its parts, its routes, its handlers, its life."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from registry import events as registry_events
from registry import installation
from registry import jobs as registry_jobs
from registry import opendsr as subject_requests
from registry.database import Database
from registry.jobs import Standing
from registry.settings import Settings
from registry.stores import store_of
from service import (
    artifacts,
    audit,
    documentation,
    events,
    evidence,
    jobs,
    lifecycle,
    logs,
    metrics,
    problems,
    reports,
    shelf,
    system,
    unlearn,
    versions,
    webhooks,
)
from service.background import Background
from service.broker import Broker, CeleryBroker
from service.decoders import Decoders
from service.guard import Guard
from service.metrics import Measures
from service.middleware import Bounds, Edge
from service.opendsr import described
from service.opendsr import routes as opendsr
from service.opendsr.signing import Signer
from service.outbound import Sender
from service.parts import Parts, now
from service.sealing import Sealer
from service.watching import Watch

logger = logging.getLogger("razor.http")


_ROUTERS: Final = tuple(
    module.router
    for module in (
        unlearn,
        jobs,
        lifecycle,
        events,
        reports,
        evidence,
        shelf,
        versions,
        artifacts,
        audit,
        webhooks,
        opendsr,
        system,
    )
)


class Front(FastAPI):
    """FastAPI with an OpenAPI document that also tells the bodies which are read by hand."""

    def openapi(self) -> dict[str, object]:
        """The complete document, made once."""
        if self.openapi_schema is None:
            document = documentation.completed(super().openapi())
            self.openapi_schema = described.completed(document)
        return self.openapi_schema


def create_app(settings: Settings, *, broker: Broker | None = None) -> FastAPI:
    """The front for these settings; its threads run only within its lifespan.

    ``broker`` replaces the one that the settings name.
    """
    database = Database(
        settings.database, installation.load(settings.key_path), settings.database_limits
    )

    def read() -> metrics.Reading:
        with database.reading() as session:
            return metrics.Reading(
                jobs=registry_jobs.counts(session, now=now()),
                callbacks_waiting=subject_requests.waiting(session),
            )

    def last_events(job_ids: Sequence[str]) -> dict[str, int]:
        with database.reading() as session:
            return registry_events.latest_of(session, job_ids)

    def standings(job_ids: Sequence[str]) -> dict[str, Standing]:
        with database.reading() as session:
            return registry_jobs.standings(session, job_ids)

    stopping = threading.Event()
    parts = Parts(
        settings=settings,
        database=database,
        blobs=store_of(settings),
        broker=broker or CeleryBroker(settings),
        measures=Measures(read, settings.lease_seconds),
        guard=Guard(settings, database),
        sealer=Sealer(settings.webhook_key),
        sender=Sender(allow_private=settings.webhook_allow_private),
        signer=Signer(settings),
        decoders=Decoders.of(settings),
        histories=Watch(last_events, stopping),
        standings=Watch(standings, stopping),
        stopping=stopping,
    )
    app = Front(
        title="RAZOR",
        summary="Makes a deployed vision model forget one person, object or style.",
        description=documentation.DESCRIPTION,
        version=metrics.version(),
        lifespan=_lifespan,
        # The pages fetch scripts from other sites; the document itself is at /openapi.json.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.parts = parts
    for router in _ROUTERS:
        app.include_router(router)
    for exception in (*problems.TABLE, HTTPException, RequestValidationError):
        app.add_exception_handler(exception, _answer_problem)
    # The last one added is the outermost.
    app.add_middleware(Bounds, max_bytes=settings.max_body_bytes)
    app.add_middleware(Edge, measures=parts.measures)
    return app


def _methods_by_path() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for router in _ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            found.setdefault(route.path, set()).update(route.methods or ())
    return found


_METHODS: Final = _methods_by_path()


async def _answer_problem(request: Request, exc: Exception) -> Response:
    response = problems.response_to(exc, request.scope)
    if response.status_code == 405:
        # The framework names the methods of one of the routes at this address, not of all.
        route = getattr(request.scope.get("route"), "path", "")
        if route in _METHODS:
            response.headers["allow"] = ", ".join(sorted(_METHODS[route]))
    if response.status_code >= 500:
        code = problems.kind_of(type(exc)).slug
        logger.error("problem", extra={"code": code, "error": logs.describe(exc)})
    return response


def _look_at_broker(parts: Parts) -> None:
    """An operator reads in the log what is wrong with the broker; nothing depends on it."""
    try:
        for fault in parts.broker.faults():
            logger.warning(fault)
    except Exception as exc:  # It may be down: then the relay says so, again and again.
        logger.info("broker not looked at", extra={"error": logs.describe(exc)})


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    parts: Parts = app.state.parts
    if parts.settings.opendsr_key_file is not None:
        # An operator learns now, not with the first request, that they cannot be used.
        await run_in_threadpool(parts.signer.certificate)
    await run_in_threadpool(parts.database.migrate)
    await run_in_threadpool(_look_at_broker, parts)
    background = Background(parts)
    background.start()
    try:
        yield
    finally:
        parts.stopping.set()
        await run_in_threadpool(background.stop)
        parts.decoders.close()
        parts.broker.close()
        parts.database.close()
