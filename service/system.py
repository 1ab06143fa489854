"""The service's own condition, and what its types of problems mean."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Literal

from anyio import fail_after, to_thread
from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from api_schemas.base import Output
from api_schemas.patches import FORMAT_VERSION
from api_schemas.service import Health, Readiness, Version
from service import documentation, errors, logs, metrics, problems
from service.parts import Parts, PartsOf

router = APIRouter(tags=["system"])
logger = logging.getLogger("razor.readiness")

#: Of each; more than a check of a service that is well ever takes.
CHECK_SECONDS: Final = 3.0
#: Without these nothing can be accepted; without the broker it can, and is sent on later.
_NEEDED: Final = ("database", "storage")


class ProblemType(Output):
    """What one type of problem means."""

    type: str
    title: str
    status: int
    detail: str
    retryable: bool


@router.get("/healthz", summary="Is the process alive?", responses=documentation.problems_of())
async def health() -> Health:
    """Always ok: it asks nothing of database, storage or broker, nor of the thread pool."""
    return Health(status="ok")


@router.get(
    "/readyz",
    response_model=Readiness,
    summary="Can requests be accepted?",
    responses=documentation.problems_of()
    | {503: {"model": Readiness, "description": "Database or storage does not answer."}},
)
async def readiness(parts: PartsOf) -> Response:
    """200 while requests can be accepted and kept, even if the broker is down; else 503.

    What does not answer in time counts as failed, and no request that waits can delay this one.
    """
    probes: dict[str, Callable[[], object]] = {
        "database": parts.database.ping,
        "storage": parts.blobs.check,
        "broker": parts.broker.ping,
    }
    checks = {name: await _check(parts, name, probe) for name, probe in probes.items()}
    usable = all(checks[name] == "ok" for name in _NEEDED)
    status: Literal["ready", "degraded", "not_ready"] = "not_ready"
    if usable:
        status = "ready" if checks["broker"] == "ok" else "degraded"
    return Response(
        Readiness(status=status, checks=checks).model_dump_json(),
        status_code=200 if usable else 503,
        headers={"cache-control": "no-store"},
        media_type="application/json",
    )


async def _check(parts: Parts, name: str, probe: Callable[[], object]) -> Literal["ok", "failed"]:
    try:
        with fail_after(CHECK_SECONDS):
            await to_thread.run_sync(probe, abandon_on_cancel=True, limiter=parts.probes)
    except Exception as exc:  # Whatever the driver raises, the answer is the same.
        logger.info("check failed", extra={"code": name, "error": logs.describe(exc)})
        return "failed"
    return "ok"


@router.get("/version", summary="What runs here", responses=documentation.problems_of())
async def version() -> Version:
    """The release, and the version of the patch format that it writes."""
    return Version(name="razor", version=metrics.version(), patch_format=FORMAT_VERSION)


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses=documentation.problems_of()
    | {
        200: {
            "description": "Text format.",
            "content": {
                CONTENT_TYPE_LATEST: {
                    "schema": {"type": "string"},
                    "example": 'razor_jobs{status="queued"} 0.0\n',
                }
            },
        }
    },
)
def read_metrics(parts: PartsOf) -> Response:
    """Requests of this process, and figures of the registry as they are now."""
    return Response(
        parts.measures.exposition(),
        headers={"content-type": CONTENT_TYPE_LATEST, "cache-control": "no-store"},
    )


@router.get(
    "/problems/{slug}",
    summary="What a type of problem means",
    responses=documentation.problems_of(errors.RouteNotFound),
)
async def read_problem_type(slug: str) -> ProblemType:
    """The page that a problem's ``type`` leads to."""
    cls = problems.BY_SLUG.get(slug)
    if cls is None:
        raise errors.RouteNotFound
    kind = problems.TABLE[cls]
    return ProblemType(
        type=problems.PREFIX + kind.slug,
        title=kind.title,
        status=kind.status,
        detail=problems.detail_of(cls),
        retryable=kind.retryable,
    )
