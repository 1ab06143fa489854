from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from cli_world import JOB, Run, Service, problem
from pydantic import ValidationError

from api_schemas.problems import FieldProblem
from api_schemas.requests import UnlearnRequest
from cli import failures
from client.errors import ServiceUnreachable
from patches.errors import BaseMismatch, NotAPatch
from registry.errors import ModelNotFound


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (failures.Usage("x"), 2),
        (failures.Refused("x"), 1),
        (failures.Unready("x"), 3),
        (ServiceUnreachable("http://nowhere", "refused"), 3),
        (BaseMismatch("t", file="f", expected="a", found="b"), 1),
        (NotAPatch(Path("p"), "empty"), 1),
        (ModelNotFound("m"), 1),
        (FileNotFoundError(2, "No such file or directory", "gone"), 1),
    ],
)
def test_expected_errors_are_a_line_and_a_code(error: Exception, code: int) -> None:
    found = failures.explain(error)
    assert found is not None
    assert found.code == code
    assert found.message


def test_a_defect_of_ours_is_not_hidden() -> None:
    assert failures.explain(KeyError("x")) is None
    assert failures.explain(OSError("x")) is None


def test_a_wrong_field_is_named_without_its_value() -> None:
    with pytest.raises(ValidationError) as caught:
        UnlearnRequest.model_validate(
            {"model": "toy", "target": {"name": "Secret\x00Person", "kind": "ghost"}}
        )
    found = failures.explain(caught.value)
    assert found is not None
    assert found.code == 2
    assert "target.kind" in found.message
    assert "Secret" not in found.message
    assert "ghost" not in found.message


@pytest.mark.parametrize(("status", "code"), [(404, 1), (409, 1), (422, 2), (413, 2), (500, 3)])
def test_a_problem_is_told_in_one_line(run: Run, service: Service, status: int, code: int) -> None:
    field = FieldProblem(pointer="/target/kind", code="enum", detail="one of three")
    service.set("GET", f"/jobs/{JOB}", problem(status, field))
    found = run("status", JOB)
    assert found.code == code
    assert found.err == "razor: That cannot be. /target/kind: one of three (request req-7)\n"
    assert found.out == ""


def test_a_service_that_is_not_there_is_exit_3(
    run: Run, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Service, request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    monkeypatch.setattr(Service, "__call__", refuse)
    monkeypatch.setattr("client.exchange.time.sleep", lambda _: None)
    found = run("models", "list")
    assert found.code == 3
    assert found.err.startswith("razor: no answer from http://127.0.0.1:8731")
    assert "Traceback" not in found.err
