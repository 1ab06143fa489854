"""A request's targets with their pictures, and the targets that earlier versions forgot."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from sqlalchemy.orm import Session

from api_schemas.concepts import Target
from razor import material
from razor.errors import RazorError
from razor.material import Asked, Earlier, Roles
from registry import jobs
from registry.blobs import LocalBlobs
from registry.errors import BlobMissing
from registry.patches import Patch
from worker.warm import Warm

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Past:
    """The job that made a version, and which of its targets the model knew until then."""

    version: int
    job: jobs.Job
    known: tuple[bool, ...]


@dataclass(frozen=True)
class _Share:
    """One target's part of a request's pictures, as blob digests."""

    target: Target
    samples: tuple[str, ...]
    probe_samples: tuple[str, ...]

    def read(self, blobs: LocalBlobs) -> Asked:
        """The target with its pictures. Raises BlobMissing."""
        return Asked(
            self.target,
            [_read(blobs, digest) for digest in self.samples],
            [_read(blobs, digest) for digest in self.probe_samples],
        )

    def is_stored(self, blobs: LocalBlobs) -> bool:
        """Whether every picture is still there."""
        return all(blobs.exists(digest) for digest in (*self.samples, *self.probe_samples))


def past(session: Session, line: Sequence[Patch]) -> list[Past]:
    """The jobs behind the versions 1, 2, ... of a line, in order."""
    found = []
    for version, patch in enumerate(line, start=1):
        report = jobs.report(session, patch.job_id)
        assert report is not None, "a job with a patch has a report"
        known = tuple(target.known for target in report.preflight)
        found.append(Past(version, jobs.get(session, patch.job_id), known))
    return found


def asked(job: jobs.Job, blobs: LocalBlobs) -> list[Asked]:
    """The job's targets in order, each with its own pictures. Raises BlobMissing."""
    return [share.read(blobs) for share in _shares(job)]


def forgotten(warm: Warm, before: Sequence[Past], blobs: LocalBlobs) -> list[Earlier]:
    """Every target of the versions before, in order, to be measured again where that is possible.

    A target whose pictures are gone, or that the model did not know, comes without pictures: it is
    not measured, but its names still say what no retain example may show. Decoded pictures stay
    with the warm model for as long as they are stored.
    """
    return [
        _forgotten(warm, one, number, share, blobs)
        for one in before
        for number, share in enumerate(_shares(one.job))
    ]


def unmeasured(earlier: Sequence[Earlier], before: Sequence[Past]) -> int:
    """How many targets that were forgotten cannot be measured again."""
    known = [known for one in before for known in one.known]
    return sum(
        was_known and not len(each.pictures.test)
        for each, was_known in zip(earlier, known, strict=True)
    )


def _forgotten(warm: Warm, one: Past, number: int, share: _Share, blobs: LocalBlobs) -> Earlier:
    place = (one.version, number)
    if not one.known[number] or not share.is_stored(blobs):
        warm.earlier.pop(place, None)
        return _names_only(one.version, number, share.target)
    if place not in warm.earlier:
        try:
            warm.earlier[place] = material.forgotten_before(
                warm.shelf,
                share.read(blobs),
                warm.family.sizing,
                one.job.request.seed,
                one.version,
                number,
            )
        except (BlobMissing, RazorError) as error:
            # The retain set may have changed since, or a picture went this very moment.
            log.warning("version %d: %s", one.version, type(error).__name__)
            return _names_only(one.version, number, share.target)
    return warm.earlier[place]


def _names_only(version: int, number: int, target: Target) -> Earlier:
    nothing = torch.empty((0, 3, 0, 0), dtype=torch.uint8)
    domain = material.DOMAINS[target.kind]
    pictures = Roles(nothing, nothing, nothing)
    return Earlier(version, number, domain, target.names(), pictures)


def _shares(job: jobs.Job) -> Iterator[_Share]:
    """Pictures follow each other target by target; a target that is alone has them all."""
    targets = job.request.wanted()
    samples, probes = iter(job.samples), iter(job.probe_samples)
    for target in targets:
        share = target.probe_samples if len(targets) == 1 else target.probe_samples or 0
        yield _Share(target, tuple(islice(samples, target.samples)), tuple(islice(probes, share)))


def _read(blobs: LocalBlobs, digest: str) -> bytes:
    with blobs.open(digest) as stream:
        return stream.read()
