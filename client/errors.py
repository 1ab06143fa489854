"""What can go wrong between a caller and the service.

ClientError
├── ServiceUnreachable      no answer, after the retries
├── ProblemError            an answer that says no; ``problem`` says why
├── DigestError             bytes came that are not the ones that were promised
├── UnsafeArchive           a tar came with names or links that lead elsewhere
└── WaitTimeout             the job is not finished within the time given; ``job`` says how far
"""

from __future__ import annotations

from api_schemas.jobs import JobView
from api_schemas.problems import Problem


class ClientError(Exception):
    """The call did not give what was asked for."""


class ServiceUnreachable(ClientError):
    """The service does not answer; check its address and that it runs, then try again."""

    def __init__(self, base_url: str, reason: str) -> None:
        super().__init__(f"no answer from {base_url} ({reason}); check the address and try again")
        self.base_url = base_url
        self.reason = reason


class ProblemError(ClientError):
    """The service refused; ``problem.type`` is stable, ``problem.errors`` lists wrong fields."""

    def __init__(self, problem: Problem) -> None:
        lines = [f"{problem.title} ({problem.status}): {problem.detail}"]
        lines += [f"  {field.pointer or '/'}: {field.detail}" for field in problem.errors]
        lines.append(f"  request id {problem.request_id}")
        super().__init__("\n".join(lines))
        self.problem = problem


class DigestError(ClientError):
    """The file is not the one that was promised; nothing was kept, so fetch it again."""

    def __init__(self, name: str, *, expected: str, found: str) -> None:
        super().__init__(
            f"{name} should be {expected} and is {found}; nothing was kept, fetch it again"
        )
        self.name = name
        self.expected = expected
        self.found = found


class UnsafeArchive(ClientError):
    """The tar holds links, or names that lead elsewhere; nothing was kept. Ask the operator."""

    def __init__(self) -> None:
        super().__init__(
            "the tar holds links, or names that lead elsewhere; nothing was kept, ask the "
            "service's operator"
        )


class WaitTimeout(ClientError):
    """The job goes on; wait again with more time, or cancel it."""

    def __init__(self, job: JobView, timeout: float) -> None:
        super().__init__(
            f"{job.id} is {job.status.value} after {timeout:g} s; wait longer or cancel it"
        )
        self.job = job
        self.timeout = timeout
