"""Every failure is a problem, and none tells what was sent or what is inside."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from front_world import SECRET_NAME, World, world
from sqlalchemy.exc import OperationalError
from starlette.responses import StreamingResponse

from api_schemas.problems import MEDIA_TYPE, Problem
from registry import errors as registry_errors
from service import errors, logs, problems


def subclasses(cls: type[Exception]) -> set[type[Exception]]:
    return {cls} | {leaf for child in cls.__subclasses__() for leaf in subclasses(child)}


#: Raised between workers and the registry, or by an operator's commands; no request meets them.
BEHIND_THE_FRONT = {
    registry_errors.LeaseLost,
    registry_errors.IllegalTransition,
    registry_errors.StaleParent,
    registry_errors.RecordUnfit,
    registry_errors.InvalidDigest,
    registry_errors.TenantNotFound,
    registry_errors.TenantExists,
    registry_errors.KeyNotFound,
    registry_errors.KeyEnded,
    registry_errors.KeyFileInvalid,
    registry_errors.KeysMissing,
    registry_errors.SealBroken,
    registry_errors.PersonalDataGone,
    registry_errors.StoreLibraryMissing,
    registry_errors.MigrationForbidden,
    registry_errors.RoleMissing,
    registry_errors.RoleTooStrong,
}


def test_every_error_has_its_line_in_the_table() -> None:
    known = subclasses(errors.ServiceError) | subclasses(registry_errors.RegistryError)
    roots = {errors.ServiceError, registry_errors.RegistryError}
    own = {cls for cls in known if cls.__module__ in {errors.__name__, registry_errors.__name__}}
    # One that has no line of its own is told as the kind of error that it is.
    kinds = {cls for cls in own if set(cls.__mro__) & problems.TABLE.keys() - roots}
    assert own - roots - BEHIND_THE_FRONT <= kinds
    assert registry_errors.StoreDenied in kinds - problems.TABLE.keys()


def test_types_are_unique_and_lead_to_their_pages(http: TestClient) -> None:
    kinds = set(problems.TABLE.values())
    assert len({kind.slug for kind in kinds}) == len(kinds)
    for kind in kinds:
        page = http.get(problems.PREFIX + kind.slug)
        assert page.status_code == 200
        shown = page.json()
        assert shown["type"] == problems.PREFIX + kind.slug
        assert (shown["status"], shown["title"]) == (kind.status, kind.title)
        assert shown["detail"].endswith(".")
        assert kind.status < 500 or kind.retryable or kind.slug.startswith("artifact")


class Leaky(Exception):
    """Quotes what it was given, as many libraries do."""

    def __str__(self) -> str:
        return f"row ('{SECRET_NAME}') at /srv/secret"


@pytest.fixture
def broken(tmp_path: Path) -> Any:
    with world(tmp_path) as made:
        add_failing_routes(made.app)
        yield made


def add_failing_routes(app: FastAPI) -> None:
    def fail() -> None:
        raise Leaky

    def no_database() -> None:
        raise OperationalError(SECRET_NAME, {"name": SECRET_NAME}, Leaky())

    def breaks_off() -> StreamingResponse:
        def chunks() -> Any:
            yield b"begun"
            raise Leaky

        return StreamingResponse(chunks())

    for endpoint in (fail, no_database, breaks_off):
        app.router.routes.append(APIRoute(f"/{endpoint.__name__}", endpoint))


def logged(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(logs.JsonLines().format(record) for record in caplog.records)


@pytest.mark.parametrize(
    ("path", "status", "slug"),
    [("/fail", 500, "internal-error"), ("/no_database", 503, "database-unavailable")],
)
def test_a_failure_inside_tells_nothing_but_its_request_id(
    broken: World, caplog: pytest.LogCaptureFixture, path: str, status: int, slug: str
) -> None:
    assert broken.http is not None
    caplog.set_level(logging.INFO)
    answer = broken.http.get(path, headers={"X-Request-ID": "abc-1"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == MEDIA_TYPE
    problem = Problem.model_validate_json(answer.content)
    assert problem.type == f"/problems/{slug}"
    assert (problem.request_id, problem.retryable) == ("abc-1", True)
    assert ("retry-after" in answer.headers) is (status == 503)
    text = answer.text + logged(caplog)
    assert "Quillon" not in text
    assert "/srv/secret" not in text
    # The negative control: the log does say what happened, and where.
    assert ("Leaky" if status == 500 else "OperationalError") in logged(caplog)
    assert Path(__file__).name in logged(caplog)


def test_an_answer_that_breaks_off_is_cut_and_quotes_nothing(
    broken: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with (
        TestClient(broken.app) as http,
        pytest.raises(Exception, match=r"^$") as caught,
    ):
        http.get("/breaks_off")
    assert type(caught.value).__name__ == "BrokenStreamError"
    assert caught.value.__cause__ is None
    assert "Leaky" in logged(caplog)
    assert "Quillon" not in logged(caplog)


def test_a_sane_request_id_is_kept(http: TestClient) -> None:
    sane = {"a-Z_0.9": True, "x" * 64: True, "x" * 65: False, "two words": False, "{}": False}
    for given, kept in (sane | {"": False}).items():
        for path in ("/healthz", "/nowhere"):
            found = http.get(path, headers={"X-Request-ID": given}).headers["x-request-id"]
            assert (found == given) is kept
            assert found


def test_log_lines_are_json_with_route_and_request_id(
    http: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    lines: list[dict[str, Any]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(logs.JsonLines().format(record)))

    handler = Keep()
    logging.getLogger("razor").addHandler(handler)
    caplog.set_level(logging.INFO)
    try:
        http.get(f"/models/{SECRET_NAME}?q={SECRET_NAME}", headers={"X-Request-ID": "id-7"})
    finally:
        logging.getLogger("razor").removeHandler(handler)
    (line,) = lines
    assert line["request_id"] == "id-7"
    assert (line["route"], line["method"], line["status"]) == ("/models/{model_id}", "GET", 404)
    assert "Quillon" not in json.dumps(lines)
