"""What one run works on: the concept's pictures and the retain set, each in three roles."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from api_schemas.concepts import Target, TargetKind, plain
from api_schemas.reports import DataRoles
from razor import pictures, splits, wordings
from razor.errors import RetainSetInvalid
from razor.retain import RetainSet

#: The domain of labels in which a kind of target competes. Objects are named as people are.
#: Selections of the retain set that stay at hand: the three roles of two jobs.
PARTS = 6
DOMAINS = {TargetKind.IDENTITY: "name", TargetKind.OBJECT: "name", TargetKind.STYLE: "style"}


@dataclass(frozen=True)
class Origin:
    """Where a selection's pictures stand in the retain set."""

    pixels: Tensor  # (m, 3, size, size) uint8: all of the retain set's
    digest: str  # of the retain set
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Labelled:
    """Pictures with captions and labels, all in the same order."""

    pixels: Tensor  # (n, 3, size, size) uint8
    captions: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]]  # domain -> n labels, "" where unknown
    origin: Origin | None = None

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
class Earlier:
    """A target that the model was made to forget before, and must not know again.

    The roles of its pictures are those of its own run: what was tested then is tested now.
    """

    version: int | None  # the version that forgot it; None = an earlier target of this request
    target: int  # its place in its request
    domain: str
    names: tuple[str, ...]
    pictures: Roles  # none where they are gone


@dataclass(frozen=True)
class Asked:
    """One target of a request, with its pictures."""

    target: Target
    samples: Sequence[bytes]
    probe_samples: Sequence[bytes] = ()


@dataclass(frozen=True)
class Material:
    """Everything a run may look at. Methods get ``fit`` through Fit, ``select`` through a gauge."""

    domain: str
    names: tuple[str, ...]
    descriptions: tuple[str, ...]  # words that should not find the target either; measuring only
    classes: tuple[str, ...]  # the target's names first, then the retained labels, sorted
    templates: Mapping[str, tuple[str, ...]]
    target: Roles
    retain_fit: Labelled
    retain_select: Labelled
    retain_test: Labelled
    retain_fit_digest: str
    earlier: tuple[Earlier, ...]
    roles: DataRoles

    def prompts(self) -> tuple[str, ...]:
        """Every prompt that names the concept."""
        return tuple(t.format(n) for n in self.names for t in self.templates[self.domain])

    def wordings(self) -> tuple[str, ...]:
        """Half names and misspelt names, which must not find the concept either."""
        labels = self.classes[len(self.names) :]
        return (
            *wordings.partial(self.names, labels),
            *wordings.slips(self.names, middle=False),
        )


@dataclass(frozen=True)
class Shelf:
    """The retain set as tensors at a model's size; independent of any request, so kept warm."""

    rows: Labelled
    digests: tuple[str, ...]
    domains: tuple[str, ...]
    digest: str
    templates: Mapping[str, tuple[str, ...]]
    _parts: dict[tuple[int, ...], Labelled] = field(default_factory=dict, repr=False, compare=False)

    def part(self, positions: Sequence[int]) -> Labelled:
        """Those rows; the very same object as long as no more than ``PARTS`` others were asked for.

        So what a model made of them is known to be of them in the next job too.
        """
        key = tuple(positions)
        found = self._parts.pop(key, None)
        if found is None:
            origin = Origin(self.rows.pixels, self.digest, key)
            found = replace(self.rows.take(key), origin=origin)
        self._parts[key] = found
        if len(self._parts) > PARTS:
            del self._parts[next(iter(self._parts))]
        return found


def read_shelf(
    retain: RetainSet, templates: Mapping[str, tuple[str, ...]], sizing: pictures.Sizing
) -> Shelf:
    """Decodes every picture of the retain set once. Raises PictureInvalid."""
    rows = Labelled(
        pictures.stack([row.path.read_bytes() for row in retain.rows], sizing),
        tuple(row.caption for row in retain.rows),
        {key: tuple(row.labels[key] for row in retain.rows) for key in retain.domains},
    )
    digests = _digests(rows.pixels)
    whole = hashlib.sha256("\n".join((retain.digest, *digests)).encode()).hexdigest()
    return Shelf(rows, digests, retain.domains, whole, templates)


def assemble_all(
    shelf: Shelf,
    asked: Sequence[Asked],
    sizing: pictures.Sizing,
    seed: int,
    earlier: Sequence[Earlier] = (),
) -> tuple[Material, ...]:
    """The material of every target of one request, in order; each has those before as earlier ones.

    Raises as ``assemble`` does.
    """
    found: list[Material] = []
    before = list(earlier)
    for number, part in enumerate(asked):
        others = [name for other in asked if other is not part for name in other.target.names()]
        found.append(assemble(shelf, part, sizing, seed, before, others))
        before.append(forgotten_before(shelf, part, sizing, seed, None, number))
    return tuple(found)


def forgotten_before(
    shelf: Shelf,
    asked: Asked,
    sizing: pictures.Sizing,
    seed: int,
    version: int | None,
    number: int = 0,
) -> Earlier:
    """A target of an earlier request, its pictures in the roles that they had in its own run."""
    domain = _domain(shelf, asked.target)
    roles, _ = _roles(asked, sizing, seed)
    return Earlier(version, number, domain, asked.target.names(), roles)


def assemble(
    shelf: Shelf,
    asked: Asked,
    sizing: pictures.Sizing,
    seed: int,
    earlier: Sequence[Earlier] = (),
    others: Sequence[str] = (),
) -> Material:
    """Splits both sides into roles. Rows that show or name the target are no retain examples.

    Nor are rows that name what the model was made to forget before (``earlier``) or is asked to
    forget with it (``others``): retaining them would teach it anew. Probe samples are test only; a
    probe sample that is also a sample counts as a sample.
    Raises TooFewPictures, PictureInvalid, RetainSetInvalid.
    """
    target = asked.target
    domain = _domain(shelf, target)
    roles, digests = _roles(asked, sizing, seed)
    gone = [*others, *(name for each in earlier for name in each.names)]
    kept = _retained(shelf, domain, (*target.names(), *gone), set(digests))
    labels = [shelf.rows.labels[domain][i] for i in kept]
    parts = splits.split_labelled(labels, [shelf.digests[i] for i in kept], seed)
    fit, select, held_out = (
        shelf.part([kept[i] for i in side]) for side in (parts.fit, parts.select, parts.test)
    )
    if not len(fit) or not len(select) or not len(held_out):
        raise RetainSetInvalid("the retain set is too small; give three pictures of each label")
    return Material(
        domain=domain,
        names=target.names(),
        descriptions=target.descriptions,
        classes=(*target.names(), *sorted({label for label in labels if label})),
        templates=shelf.templates,
        target=roles,
        retain_fit=fit,
        retain_select=select,
        retain_test=held_out,
        retain_fit_digest=_named(fit, [shelf.digests[kept[i]] for i in parts.fit]),
        earlier=tuple(each for each in earlier if len(each.pictures.test)),
        roles=DataRoles(
            target_fit=len(roles.fit),
            target_select=len(roles.select),
            target_test=len(roles.test),
            retain_fit=len(fit),
            retain_select=len(select),
            retain_test=len(held_out),
            target_digest=pictures.digest([*asked.samples, *asked.probe_samples]),
            retain_digest=shelf.digest,
        ),
    )


def _domain(shelf: Shelf, target: Target) -> str:
    domain = DOMAINS[target.kind]
    if domain not in shelf.domains:
        raise RetainSetInvalid(f"the retain set has no column {domain!r}; add it to index.csv")
    return domain


def _roles(asked: Asked, sizing: pictures.Sizing, seed: int) -> tuple[Roles, tuple[str, ...]]:
    """The concept's pictures by role, and the digests of all of them."""
    split = splits.split_samples(asked.samples, seed)
    shown = pictures.stack(asked.samples, sizing)
    probes = pictures.stack(asked.probe_samples, sizing)
    known = dict.fromkeys(_digests(shown))
    fresh: list[int] = []
    for position, digest in enumerate(_digests(probes)):
        if digest not in known:
            fresh.append(position)
            known[digest] = None
    test = torch.cat([shown[list(split.test)], probes[fresh]])
    return Roles(shown[list(split.fit)], shown[list(split.select)], test), tuple(known)


def _named(rows: Labelled, digests: Sequence[str]) -> str:
    """Names a retain part by its pictures and captions, in order."""
    parts = [f"{digest} {caption}" for digest, caption in zip(digests, rows.captions, strict=True)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _digests(pixels: Tensor) -> tuple[str, ...]:
    """Names each picture by what the model sees: the same picture in another file is the same."""
    return tuple(hashlib.sha256(picture.numpy().tobytes()).hexdigest() for picture in pixels)


def _retained(shelf: Shelf, domain: str, names: Sequence[str], shown: set[str]) -> list[int]:
    """Rows that neither show the target nor carry one of these names in label or caption."""
    wanted = [re.compile(rf"(?<!\w){re.escape(plain(name))}(?!\w)") for name in names]

    def keeps(position: int) -> bool:
        label = plain(shelf.rows.labels[domain][position])
        caption = plain(shelf.rows.captions[position])
        named = any(name.search(text) for name in wanted for text in (label, caption))
        return bool(label) and not named and shelf.digests[position] not in shown

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
