"""Data roles: fit, select and test, disjoint by picture digest, drawn by seed.

Gradients see fit, the step search and stopping see select, every reported figure comes from test.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from api_schemas.requests import MIN_SAMPLES
from razor import seeding
from razor.errors import TooFewPictures


@dataclass(frozen=True)
class Split:
    """Positions of the pictures that play each role."""

    fit: tuple[int, ...]
    select: tuple[int, ...]
    test: tuple[int, ...]


def by_digest(blobs: Sequence[bytes]) -> list[int]:
    """Positions of distinct pictures, in the order of their digests.

    The order of a request's files then has no influence, and a picture sent twice cannot stand on
    both sides of a split.
    """
    first: dict[str, int] = {}
    for position, blob in enumerate(blobs):
        first.setdefault(hashlib.sha256(blob).hexdigest(), position)
    return [first[digest] for digest in sorted(first)]


def split_samples(blobs: Sequence[bytes], seed: int) -> Split:
    """Half fit, a quarter select, a quarter test, at least one each. Raises TooFewPictures."""
    positions = by_digest(blobs)
    if len(positions) < MIN_SAMPLES:
        raise TooFewPictures(
            f"{len(positions)} different pictures are too few; send at least {MIN_SAMPLES}"
        )
    rng = seeding.generator(seed, "split samples")
    shuffled = [positions[i] for i in torch.randperm(len(positions), generator=rng).tolist()]
    quarter = max(1, len(shuffled) // 4)
    return Split(
        fit=tuple(sorted(shuffled[2 * quarter :])),
        select=tuple(sorted(shuffled[quarter : 2 * quarter])),
        test=tuple(sorted(shuffled[:quarter])),
    )


def split_labelled(
    labels: Sequence[str],
    digests: Sequence[str],
    seed: int,
) -> Split:
    """Splits labelled pictures within each label: half fit, a quarter select, a quarter test.

    Equal pictures go to the same role, whatever their label, so that roles stay disjoint by digest.
    A label with one distinct picture is fit only; with two, fit and test.
    """
    roles: dict[str, int] = {}
    members: dict[str, list[str]] = {}
    for label, digest in zip(labels, digests, strict=True):
        if digest not in roles:
            roles[digest] = -1
            members.setdefault(label, []).append(digest)
    rng = seeding.generator(seed, "split retain")
    for label in sorted(members):
        own = sorted(members[label])
        order = [own[i] for i in torch.randperm(len(own), generator=rng).tolist()]
        quarter = max(1, len(order) // 4) if len(order) > 1 else 0
        selected = quarter if len(order) > 2 else 0
        for place, digest in enumerate(order):
            roles[digest] = 2 if place < quarter else 1 if place < quarter + selected else 0
    sides: tuple[list[int], list[int], list[int]] = ([], [], [])
    for position, digest in enumerate(digests):
        sides[roles[digest]].append(position)
    return Split(*(tuple(side) for side in sides))
