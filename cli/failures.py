"""What an error means to whoever typed the command: one line and an exit code. The only table.

::

    CommandError
    ├── Usage       the command cannot mean this               exit 2
    ├── Refused     the answer is no                           exit 1
    └── Unready     the service does not come up               exit 3
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

REFUSED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
_SERVER_ERRORS: Final = 500
_UNAUTHENTICATED: Final = 401
_INVALID: Final = frozenset({400, 413, 415, 422})


class CommandError(Exception):
    """The command could not be carried out; the message says what to do next."""

    code = REFUSED


class Usage(CommandError):
    """The command cannot mean this; see its --help."""

    code = USAGE


class Refused(CommandError):
    """The answer is no."""


class Unready(CommandError):
    """The service does not come up; look at its log."""

    code = UNREACHABLE


@dataclass(frozen=True, slots=True)
class Failure:
    """What to print and how to exit."""

    message: str
    code: int


#: Module and class of the trees that are expected, with the exit code. First match counts. A tree
#: whose module was never imported cannot have raised, so none is imported for the comparison.
_TREES: Final = (
    ("client.errors", "ServiceUnreachable", UNREACHABLE),
    ("client.errors", "ClientError", REFUSED),
    ("patches.errors", "PatchError", REFUSED),
    ("evidence.errors", "EvidenceError", REFUSED),
    ("registry.errors", "RegistryError", REFUSED),
    ("razor.errors", "RazorError", REFUSED),
    ("razor.reference.errors", "ReferenceNetworkError", REFUSED),
)


def explain(error: BaseException) -> Failure | None:
    """The line and the exit code of an expected error; None for one that is a defect of ours."""
    if isinstance(error, CommandError):
        return Failure(str(error), error.code)
    if isinstance(error, OSError) and error.filename is not None:
        return Failure(f"{error.filename}: {error.strerror}", REFUSED)
    if _is(error, "client.errors", "ProblemError"):
        return _problem(error)
    if _is(error, "pydantic", "ValidationError"):
        return Failure(invalid(error), USAGE)
    if _is(error, "sqlalchemy.exc", "OperationalError"):
        return Failure(
            "the database does not answer; check RAZOR_DATABASE_URL or the data folder", UNREACHABLE
        )
    for module, name, code in _TREES:
        if _is(error, module, name):
            return Failure(str(error), code)
    return None


def invalid(error: BaseException) -> str:
    """Which fields break which rule, without their values: one of them is a name."""
    found = getattr(error, "errors")(include_input=False, include_url=False)  # noqa: B009
    return "; ".join(_field(one) for one in found)


def _field(error: Mapping[str, Any]) -> str:
    """One rule that is broken; ``place`` is where fields do not go together."""
    place = [*error["loc"], *error.get("ctx", {}).get("place", ())]
    return f"{'.'.join(str(step) for step in place)}: {error['msg']}"


def _problem(error: BaseException) -> Failure:
    """A problem that the service sent: its words, the fields, and the id to ask about."""
    problem = getattr(error, "problem")  # noqa: B009
    told = [f"{field.pointer}: {field.detail.removesuffix('.')}" for field in problem.errors]
    more = "; ".join(told)
    code = REFUSED
    if problem.status == _UNAUTHENTICATED:
        more = "Set RAZOR_API_KEY to a valid key (razor keys create makes one)"
    if problem.status in _INVALID:
        code = USAGE
    elif problem.status >= _SERVER_ERRORS:
        code = UNREACHABLE
    words = " ".join(filter(None, (problem.detail, more)))
    return Failure(f"{words} (request {problem.request_id})", code)


def _is(error: BaseException, module: str, name: str) -> bool:
    tree = getattr(sys.modules.get(module), name, None)
    return tree is not None and isinstance(error, tree)
