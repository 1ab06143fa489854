"""Validation errors as field problems: JSON pointers, stable codes, and no echo of the input."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from api_schemas import methods
from api_schemas.problems import FieldProblem
from api_schemas.requests import PLACE

MAX_PROBLEMS = 50

_METHOD_NAMES: Final = frozenset(methods.names())
#: Names that may be repeated to the caller. Anything else could be a person's name sent as a key.
_FIELD_NAME: Final = re.compile(r"[a-z][A-Za-z0-9_]{0,39}")

#: Where pydantic's own sentence repeats the input, or is no help.
_DETAILS: Final[dict[str, str]] = {
    "extra_forbidden": "Unknown field; remove it, or correct its spelling.",
    "missing": "This field is required.",
    "union_tag_invalid": "There is no such method; GET /methods lists them.",
    "union_tag_not_found": "Say which method: add the field 'method'.",
    "base64_decode": "This is not base64; encode the picture's bytes as standard base64.",
}
_VALUE_ERROR_PREFIX: Final = "Value error, "


def pointer(location: Iterable[int | str]) -> str:
    """A JSON pointer (RFC 6901) to this place, cut before a name that is no field's."""
    parts = list(location)
    # A union told apart by a tag puts the tag into the path; the caller's document has no such
    # level.
    if len(parts) > 1 and parts[0] == "method" and parts[1] in _METHOD_NAMES:
        del parts[1]
    path = ""
    for part in parts:
        if isinstance(part, str) and not _FIELD_NAME.fullmatch(part):
            break
        path += f"/{part}"
    return path


def _field_problem(error: Mapping[str, Any], location: Sequence[int | str]) -> FieldProblem:
    code = str(error["type"])
    # Ours, where fields that are right by themselves do not go together; nothing else is read
    # from the context, which may quote the input.
    place = error.get("ctx", {}).get(PLACE)
    path = pointer([*location, *place] if place else location)
    if code in {"union_tag_invalid", "union_tag_not_found"}:
        path += "/method"
    words = str(error["msg"]).removeprefix(_VALUE_ERROR_PREFIX)
    detail = words if place else _DETAILS.get(code, words)
    return FieldProblem(pointer=path, code=code, detail=detail)


def from_body(error: ValidationError) -> list[FieldProblem]:
    """What is wrong with which field of a body, at most ``MAX_PROBLEMS`` lines."""
    details = error.errors(include_url=False, include_input=False)
    return [_field_problem(line, line["loc"]) for line in details[:MAX_PROBLEMS]]


def from_parameters(details: Sequence[Mapping[str, Any]]) -> list[FieldProblem]:
    """The same for what the framework reads: ``/query/limit``, ``/path/name``, or in the body."""
    return [_field_problem(line, _in_body(line["loc"])) for line in details[:MAX_PROBLEMS]]


def _in_body(location: Sequence[int | str]) -> Sequence[int | str]:
    """The place in the body's own document; other places as they are."""
    return location[1:] if location[:1] == ("body",) else location
