"""Whom a job is about, in digests that outlive the names."""

from __future__ import annotations

from collections.abc import Iterable

from api_schemas.base import Output
from api_schemas.concepts import Target, TargetKind
from registry.installation import Keys


class Subject(Output):
    """One target of a request. ``marks`` are those of its name and aliases; see ``Keys``."""

    subject: str
    kind: TargetKind
    marks: tuple[str, ...]


class Subjects(Output):
    """The targets of one request, in order."""

    items: tuple[Subject, ...]


def subjects_of(targets: Iterable[Target], tenant: str, keys: Keys) -> Subjects:
    """The same for every spelling of the same names in the same tenant."""
    return Subjects(
        items=tuple(
            Subject(
                subject=keys.subject(tenant, target.name),
                kind=target.kind,
                marks=tuple(keys.mark(name) for name in target.names()),
            )
            for target in targets
        )
    )
