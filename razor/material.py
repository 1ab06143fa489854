"""What one run works on: the concept's pictures and the retain set, each in three roles."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from api_schemas.concepts import Target, TargetKind
from api_schemas.reports import DataRoles
from razor import pictures, splits
from razor.errors import RetainSetInvalid
from razor.retain import RetainSet

#: The domain of labels in which a kind of target competes. Objects are named as people are.
DOMAINS = {TargetKind.IDENTITY: "name", TargetKind.OBJECT: "name", TargetKind.STYLE: "style"}


@dataclass(frozen=True)
class Labelled:
    """Pictures with captions and labels, all in the same order."""

    pixels: Tensor  # (n, 3, size, size) uint8
    captions: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]]  # domain -> n labels, "" where unknown

    def __len__(self) -> int:
        return len(self.captions)

    def take(self, positions: Sequence[int]) -> Labelled:
        """Those pictures only."""
        return Labelled(
            self.pixels[list(positions)],
            tuple(self.captions[i] for i in positions),
            {key: tuple(column[i] for i in positions) for key, column in self.labels.items()},
        )


@dataclass(frozen=True)
class Roles:
    """The concept's pictures by role, (n, 3, size, size) uint8 each."""

    fit: Tensor
    select: Tensor
    test: Tensor


@dataclass(frozen=True)
class Material:
    """Everything a run may look at. Methods get ``fit`` through Fit, ``select`` through a gauge."""

    domain: str
    names: tuple[str, ...]
    classes: tuple[str, ...]  # the target's names first, then the retained labels, sorted
    templates: Mapping[str, tuple[str, ...]]
    target: Roles
    retain_fit: Labelled
    retain_select: Labelled
    retain_test: Labelled
    roles: DataRoles

    def prompts(self) -> tuple[str, ...]:
        """Every prompt that names the concept."""
        return tuple(t.format(n) for n in self.names for t in self.templates[self.domain])


@dataclass(frozen=True)
class Shelf:
    """The retain set as tensors at a model's size; independent of any request, so kept warm."""

    rows: Labelled
    digests: tuple[str, ...]
    domains: tuple[str, ...]
    digest: str
    templates: Mapping[str, tuple[str, ...]]


def read_shelf(
    retain: RetainSet, templates: Mapping[str, tuple[str, ...]], sizing: pictures.Sizing
) -> Shelf:
    """Decodes every picture of the retain set once. Raises PictureInvalid."""
    blobs = [row.path.read_bytes() for row in retain.rows]
    rows = Labelled(
        pictures.stack(blobs, sizing),
        tuple(row.caption for row in retain.rows),
        {key: tuple(row.labels[key] for row in retain.rows) for key in retain.domains},
    )
    digests = tuple(hashlib.sha256(blob).hexdigest() for blob in blobs)
    return Shelf(rows, digests, retain.domains, retain.digest, templates)


def assemble(
    shelf: Shelf,
    target: Target,
    samples: Sequence[bytes],
    probe_samples: Sequence[bytes],
    sizing: pictures.Sizing,
    seed: int,
) -> Material:
    """Splits both sides into roles. Rows that show or name the target are no retain examples.

    Probe samples are test only; a probe sample that is also a sample counts as a sample. Raises
    TooFewPictures, PictureInvalid, RetainSetInvalid.
    """
    domain = DOMAINS[target.kind]
    if domain not in shelf.domains:
        raise RetainSetInvalid(f"the retain set has no column {domain!r}; add it to index.csv")
    split = splits.split_samples(samples, seed)
    known = {hashlib.sha256(blob).hexdigest() for blob in samples}
    distinct = [probe_samples[i] for i in splits.by_digest(probe_samples)]
    fresh = [blob for blob in distinct if hashlib.sha256(blob).hexdigest() not in known]
    test = [samples[i] for i in split.test] + fresh
    roles = Roles(
        pictures.stack([samples[i] for i in split.fit], sizing),
        pictures.stack([samples[i] for i in split.select], sizing),
        pictures.stack(test, sizing),
    )
    kept = _retained(shelf, domain, target.names(), known | {_sha(blob) for blob in fresh})
    labels = [shelf.rows.labels[domain][i] for i in kept]
    parts = splits.split_labelled(labels, [shelf.digests[i] for i in kept], seed)
    fit, select, held_out = (
        shelf.rows.take([kept[i] for i in side]) for side in (parts.fit, parts.select, parts.test)
    )
    if not len(fit) or not len(select) or not len(held_out):
        raise RetainSetInvalid("the retain set is too small; give three pictures of each label")
    return Material(
        domain=domain,
        names=target.names(),
        classes=(*target.names(), *sorted({label for label in labels if label})),
        templates=shelf.templates,
        target=roles,
        retain_fit=fit,
        retain_select=select,
        retain_test=held_out,
        roles=DataRoles(
            target_fit=len(split.fit),
            target_select=len(split.select),
            target_test=len(test),
            retain_fit=len(fit),
            retain_select=len(select),
            retain_test=len(held_out),
            target_digest=pictures.digest([*samples, *fresh]),
            retain_digest=shelf.digest,
        ),
    )


def _sha(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()


def _retained(shelf: Shelf, domain: str, names: Sequence[str], shown: set[str]) -> list[int]:
    """Rows that neither show the target nor carry one of its names in label or caption."""
    wanted = [name.casefold() for name in names]

    def keeps(position: int) -> bool:
        label = shelf.rows.labels[domain][position].casefold()
        caption = shelf.rows.captions[position].casefold()
        return (
            bool(label)
            and label not in wanted
            and not any(name in caption for name in wanted)
            and shelf.digests[position] not in shown
        )

    return [position for position in range(len(shelf.rows)) if keeps(position)]


def neighbours(
    target: Tensor,  # (n, d): features of the concept's pictures, unit length
    retained: Tensor,  # (m, d): features of retained pictures, unit length
    labels: Sequence[str],  # m labels
    most: int = 5,
) -> tuple[str, ...]:
    """The retained labels whose mean picture is most similar to the concept's, nearest first."""
    centre = target.mean(dim=0)
    means = {
        label: retained[[i for i, own in enumerate(labels) if own == label]].mean(dim=0)
        for label in sorted(set(labels))
    }
    similarity = {
        label: float(torch.nn.functional.cosine_similarity(centre, mean, dim=0))
        for label, mean in means.items()
    }
    return tuple(sorted(similarity, key=lambda label: (-similarity[label], label))[:most])
