"""Problems in the facade's own form: its callers know no other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.responses import Response

from api_schemas.opendsr import ErrorDetail, Refusal, RefusalAnswer
from api_schemas.problems import Problem

ROOT: Final = "/opendsr/"
#: The specification has one status for what is wrong with a request.
_STATUS: Final = {409: 400, 422: 400}


def belongs(path: str) -> bool:
    """Whether this address is the facade's."""
    return path.startswith(ROOT)


def status_of(problem_status: int) -> int:
    """The status that the facade answers where the rest of the service answers this one."""
    return _STATUS.get(problem_status, problem_status)


def refusal(problem: Problem) -> RefusalAnswer:
    """The problem in the specification's form: one entry for each field that is wrong."""
    slug = problem.type.rpartition("/")[2]
    details = [
        ErrorDetail(
            domain=slug,
            reason=field.code,
            message=f"{field.pointer}: {field.detail}" if field.pointer else field.detail,
        )
        for field in problem.errors
    ]
    return RefusalAnswer(
        error=Refusal(
            code=status_of(problem.status),
            message=problem.detail,
            errors=details or [ErrorDetail(domain=slug, reason=slug, message=problem.detail)],
        )
    )


def response(problem: Problem, headers: Mapping[str, str]) -> Response:
    """The problem as an answer of the facade, with these headers, kept by nobody."""
    return Response(
        refusal(problem).model_dump_json(),
        status_code=status_of(problem.status),
        headers={**headers, "cache-control": "no-store", "pragma": "no-cache"},
        media_type="application/json",
    )
