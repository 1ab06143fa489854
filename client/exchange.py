"""One request and its answer: retried where that is safe, refusals raised as errors."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from api_schemas.problems import Problem
from client.errors import ProblemError, ServiceUnreachable

#: Pauses between attempts, in seconds: three seconds in all.
PAUSES_SECONDS: Final = (0.2, 0.4, 0.8, 1.6)
#: Answers of a service, or of a proxy before it, that may be back in a moment.
COMING_BACK: Final = frozenset({502, 503, 504})
_RATE_LIMITED: Final = "/problems/rate-limited"
_MAX_RETRY_AFTER_SECONDS: Final = 10.0

Headers = Mapping[str, str]
View = TypeVar("View", bound=BaseModel)


class Exchange:
    """Sends requests to one service. Everything sent here may be sent twice without harm."""

    def __init__(
        self,
        base_url: str,
        timeout_seconds: float,
        transport: httpx.BaseTransport | None,
        api_key: str | None = None,
    ) -> None:
        self.base_url = base_url
        self.timeout_seconds = timeout_seconds
        # Redirects are not followed, so the key goes to this service and to nobody else.
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._http = httpx.Client(
            base_url=base_url, timeout=timeout_seconds, transport=transport, headers=headers
        )

    def close(self) -> None:
        """Close the connections; idempotent."""
        self._http.close()

    def get(self, path: str, **options: Any) -> httpx.Response:
        """The answer to a GET. Raises ``ProblemError``, ``ServiceUnreachable``."""
        return self.send("GET", path, **options)

    def send(
        self,
        method: str,
        path: str,
        *,
        retry: bool = True,
        accept: frozenset[int] = frozenset(),
        **options: Any,
    ) -> httpx.Response:
        """The answer, once it is a success or one of the statuses in ``accept``.

        Connection errors, and answers that say "back in a moment", are tried again after pauses.
        Raises ``ProblemError`` for refusals, ``ServiceUnreachable`` after the last attempt.
        """
        pauses = iter(PAUSES_SECONDS if retry else ())
        while True:
            pause = next(pauses, None)
            try:
                response = self._http.request(method, path, **options)
            except httpx.TransportError as exc:
                if pause is None:
                    raise ServiceUnreachable(self.base_url, type(exc).__name__) from exc
            else:
                if response.is_success or response.status_code in accept:
                    return response
                problem = problem_in(response)
                if pause is None or not comes_back(problem):
                    raise ProblemError(problem)
                pause = max(pause, retry_after_seconds(response))
            time.sleep(pause)

    @contextmanager
    def stream(self, path: str, headers: Headers, **options: Any) -> Iterator[httpx.Response]:
        """A successful answer whose body is still to be read.

        Raises ``ProblemError``; ``httpx.TransportError`` also while the body is read.
        """
        with self._http.stream("GET", path, headers=headers, **options) as response:
            if not response.is_success:
                response.read()
                raise ProblemError(problem_in(response))
            yield response


def comes_back(problem: Problem) -> bool:
    """Whether the same request may be answered in a moment; a quota that is used up is not."""
    return problem.status in COMING_BACK or problem.type == _RATE_LIMITED


def segment(identifier: str) -> str:
    """The id as one segment of a path, whatever characters it has."""
    # A dot or two alone would be taken for this folder or the one above.
    return quote(identifier, safe="") if identifier.strip(".") else identifier.replace(".", "%2E")


def parsed(response: httpx.Response, schema: type[View]) -> View:
    """The view in a successful answer. Raises ``ProblemError`` when it holds something else."""
    try:
        return schema.model_validate_json(response.content)
    except ValidationError:
        raise ProblemError(_not_ours(response)) from None


def retry_after_seconds(response: httpx.Response) -> float:
    """What the service asks to wait, within reason; 0 when it does not say."""
    asked = response.headers.get("retry-after", "")
    return min(float(asked), _MAX_RETRY_AFTER_SECONDS) if asked.isdecimal() else 0.0


def problem_in(response: httpx.Response) -> Problem:
    """The problem that an answer carries, or one made of its status when it carries none."""
    try:
        return Problem.model_validate_json(response.content)
    except ValidationError:
        return _not_ours(response)


def _not_ours(response: httpx.Response) -> Problem:
    return Problem(
        type="about:blank",
        title=response.reason_phrase or "Unexpected answer",
        status=response.status_code,
        detail="The answer is not one of this service; check the address, any proxy, and that "
        "client and service are of the same release.",
        request_id=response.headers.get("x-request-id", ""),
        retryable=response.status_code in COMING_BACK,
        errors=[],
    )
