"""A request's targets with their pictures, and the targets that earlier versions forgot."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from sqlalchemy.orm import Session

from api_schemas.concepts import Target, TargetKind
from razor import material, mentions
from razor.errors import RazorError
from razor.material import Asked, Earlier, Roles
from registry import jobs
from registry.blobs import BlobStore
from registry.errors import PersonalDataGone, RegistryError
from registry.installation import Keys
from registry.patches import Patch
from registry.sealing import DataKey
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
    """One target's part of a request's pictures, as blob digests, and the key that opens them."""

    target: Target
    samples: tuple[str, ...]
    probe_samples: tuple[str, ...]
    data_key: DataKey | None

    def read(self, blobs: BlobStore) -> Asked:
        """The target with its pictures. Raises BlobMissing, SealBroken."""
        return Asked(
            self.target,
            [self._read(blobs, digest) for digest in self.samples],
            [self._read(blobs, digest) for digest in self.probe_samples],
        )

    def is_stored(self, blobs: BlobStore) -> bool:
        """Whether every picture is still there."""
        return all(blobs.exists(digest) for digest in (*self.samples, *self.probe_samples))

    def _read(self, blobs: BlobStore, digest: str) -> bytes:
        with blobs.open(digest) as stream:
            stored = stream.read()
        # A job without a key is one of before there were keys: its pictures are in the clear.
        return stored if self.data_key is None else self.data_key.open_picture(stored)


@dataclass(frozen=True)
class _Forgotten:
    """One target of an earlier version; ``share`` is None where its request is deleted."""

    past: Past
    number: int
    kind: TargetKind
    marks: tuple[str, ...]
    share: _Share | None

    @property
    def known(self) -> bool:
        """Whether the model knew it until then."""
        return self.past.known[self.number]

    @property
    def domain(self) -> str:
        """Where its names are labels."""
        return material.DOMAINS[self.kind]


def past(session: Session, line: Sequence[Patch]) -> list[Past]:
    """The jobs behind the versions of a line, in order. What was revoked is in no line."""
    found = []
    for patch in line:
        report = jobs.report(session, patch.job_id)
        assert report is not None, "a job with a patch has a report"
        known = tuple(target.known for target in report.preflight)
        assert patch.version is not None, "a patch of a line made a version"
        found.append(Past(patch.version, jobs.get(session, patch.job_id), known))
    return found


def asked(job: jobs.Job, blobs: BlobStore) -> list[Asked]:
    """The job's targets in order, each with its own pictures.

    Raises BlobMissing; PersonalDataGone where the job's personal data cannot be opened.
    """
    if not job.request.wanted():
        raise PersonalDataGone(job.id)
    return [share.read(blobs) for share in _shares(job)]


def forgotten(warm: Warm, before: Sequence[Past], blobs: BlobStore, keys: Keys) -> list[Earlier]:
    """Every target of the versions before, in order, to be measured again where that is possible.

    On its own pictures while they are stored (decoded ones stay with the warm model for as long),
    else on those that the retain set has of it, else it is not measured; nor is a target that the
    model did not know. Its names always say what no retain example may show: where they are
    deleted, those that the retain set itself writes, found by their keyed hashes.
    """
    targets = [target for one in before for target in _targets(one)]
    names = _names(warm, targets, keys)
    return [
        _on_own_pictures(warm, target, blobs) or _on_retained_pictures(warm, target, names(target))
        for target in targets
    ]


def unmeasured(earlier: Sequence[Earlier], before: Sequence[Past]) -> int:
    """How many targets that were forgotten cannot be measured again."""
    known = [known for one in before for known in one.known]
    return sum(
        was_known and not len(each.pictures.test)
        for each, was_known in zip(earlier, known, strict=True)
    )


def _targets(one: Past) -> Iterator[_Forgotten]:
    """The targets of an earlier version's request, whether or not it is deleted."""
    job = one.job
    if job.request.wanted():
        for number, share in enumerate(_shares(job)):
            yield _Forgotten(one, number, share.target.kind, (), share)
    else:
        for number, subject in enumerate(job.subjects):
            yield _Forgotten(one, number, subject.kind, subject.marks, None)


def _names(
    warm: Warm, targets: Sequence[_Forgotten], keys: Keys
) -> Callable[[_Forgotten], tuple[str, ...]]:
    """How each target is called: by its request, or by the retain set if it speaks of it at all.

    The retain set is searched once for each name, and what it says stays with the warm model.
    """
    wanted: dict[str, set[str]] = {}
    for target in targets:
        new = {mark for mark in target.marks if (target.domain, mark) not in warm.mentions}
        wanted.setdefault(target.domain, set()).update(new)
    for domain, marks in wanted.items():
        if marks:
            found = mentions.find(warm.shelf, domain, keys.mark, marks)
            warm.mentions.update({(domain, mark): names for mark, names in found.items()})

    def names(target: _Forgotten) -> tuple[str, ...]:
        if target.share is not None:
            return target.share.target.names()
        each = (warm.mentions[target.domain, mark] for mark in target.marks)
        return tuple(name for spellings in each for name in spellings)

    return names


def _on_own_pictures(warm: Warm, target: _Forgotten, blobs: BlobStore) -> Earlier | None:
    """The target in the pictures of its own request, None where they are gone or not needed."""
    version, seed = target.past.version, target.past.job.request.seed
    place, share = (version, target.number), target.share
    if share is None or not target.known or not share.is_stored(blobs):
        warm.earlier.pop(place, None)
        return None
    if place not in warm.earlier:
        try:
            warm.earlier[place] = material.forgotten_before(
                warm.shelf, share.read(blobs), warm.family.sizing, seed, version, target.number
            )
        except (RegistryError, RazorError) as error:
            # The retain set may have changed since, or a picture went this very moment.
            log.warning("version %d: %s", version, type(error).__name__)
            return None
    return warm.earlier[place]


def _on_retained_pictures(warm: Warm, target: _Forgotten, names: tuple[str, ...]) -> Earlier:
    """The target in the retain set's own pictures, without any where it has too few."""
    version, seed = target.past.version, target.past.job.request.seed
    if target.known:
        shown = mentions.shown(warm.shelf, target.domain, names, version, target.number, seed)
        if shown is not None:
            return shown
    nothing = torch.empty((0, 3, 0, 0), dtype=torch.uint8)
    pictures = Roles(nothing, nothing, nothing)
    return Earlier(version, target.number, target.domain, names, pictures)


def _shares(job: jobs.Job) -> Iterator[_Share]:
    """Pictures follow each other target by target; a target that is alone has them all."""
    targets = job.request.wanted()
    samples, probes = iter(job.samples), iter(job.probe_samples)
    for target in targets:
        share = target.probe_samples if len(targets) == 1 else target.probe_samples or 0
        yield _Share(
            target,
            tuple(islice(samples, target.samples)),
            tuple(islice(probes, share)),
            job.data_key,
        )
