"""The data that gradients may see in one run on a picture generator.

Everything of the frozen model is asked for when the fit is made, for a fixed stock of noisy
latents: no second copy of the weights is ever needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from razor import asking, pictures, seeding
from razor.asking import Pattern
from razor.families.diffusion import Diffusion, Lesson, RetainBatch
from razor.families.noise import Noised
from razor.gradients import Gradients, mean_gradient, parameters_of
from razor.material import Material
from razor.memory import T

AUGMENTED = 24  # of the concept's pictures in all; few pictures are augmented up to this many
PAINTED = 24  # of the concept by the frozen model itself, as SLUG does (arXiv 2407.11867)
X = TypeVar("X")

DRAWS = 4  # noisy versions of each of these
RETAIN_DRAWS = 2  # noisy versions of each retained picture
RETAINED = 512  # noisy retained latents in stock, at most
INSTEAD = 4  # retained labels whose answers, averaged, stand for "anything else"
FORGET_ROWS = RETAIN_ROWS = 32  # of a batch
NEIGHBOUR_SHARE = 0.5  # of a retain batch comes from the concept's neighbours
NEIGHBOURS = 5
NEIGHBOUR_DRAWS = 8  # noisy versions of each picture that tells who they are
LABELS_COMPARED = 32  # at most
#: How far past "anything else" the forget term aims, as a share of the way there: the retain terms
#: hold it back, and a name that says a little is still a name.
BEYOND = 0.5
FLOOR = 0.1  # of the mean: a prompt that changes less than this counts as this much


@dataclass(frozen=True)
class Stock:
    """Noisy latents of the concept, and what the frozen model says to them under several names."""

    latents: Tensor  # (n, c, h, w), noisy
    steps: Tensor  # (n,)
    noise: Tensor  # (n, c, h, w): the right answer
    patterns: tuple[Pattern, ...]  # n
    named: Tensor  # (n, c, h, w): answers with the concept's name
    empty: Tensor  # (n, c, h, w): with an empty prompt
    instead: Tensor  # (n, c, h, w): mean over some retained labels
    scales: Tensor  # (n,): mean square of named - instead, not too small


class DiffusionFit:
    """The concept's pictures, sent and painted, and the retained pairs, as noisy latents."""

    def __init__(self, family: Diffusion, material: Material, seed: int) -> None:
        self._family, self._material, self._seed = family, material, seed
        self._key = f"{seed}/{material.retain_fit_digest}"
        self._states = _state(family)
        self.neighbours = self._nearest()
        self.stock = self._stocked()
        self._alone: Tensor | None = None  # answers to the concept's name alone
        self._retain, self._labels = self._remember("retain", self._kept)
        near = set(self.neighbours)
        self._near = [i for i, label in enumerate(self._labels) if label in near]
        self._far = [i for i, label in enumerate(self._labels) if label not in near]

    def forget_batch(
        self, rng: torch.Generator, *, by_name: bool = False, scoring: bool = False
    ) -> Lesson:
        """Noisy latents of the concept, its name beside them, and what else to answer.

        ``by_name`` leaves the pictures that were sent out and keeps those that were painted.
        """
        first = self._sent if by_name else 0
        every = torch.arange(first, len(self.stock.patterns))
        rows = every[torch.randperm(len(every), generator=rng)[:FORGET_ROWS]].tolist()
        names = torch.randint(len(self._material.names), (len(rows),), generator=rng).tolist()
        return Lesson(
            self.stock.latents[rows],
            self.stock.steps[rows],
            tuple(
                self.stock.patterns[row].filled(self._material.names[name])
                for row, name in zip(rows, names, strict=True)
            ),
            self.stock.instead[rows] - BEYOND * (self.stock.named[rows] - self.stock.instead[rows]),
            1 / self.stock.scales[rows],
        )

    def retain_batch(self, rng: torch.Generator) -> RetainBatch:
        """Noisy retained latents, half of them of the concept's neighbours."""
        near = round(RETAIN_ROWS * NEIGHBOUR_SHARE) if self._far else RETAIN_ROWS
        return self._retained(
            [*_some(self._near, near, rng), *_some(self._far, RETAIN_ROWS - near, rng)]
        )

    def retain_batches(self) -> Sequence[RetainBatch]:
        """The whole retain stock once, in its order."""
        count = len(self._labels)
        return [
            self._retained(list(range(start, min(count, start + RETAIN_ROWS))))
            for start in range(0, count, RETAIN_ROWS)
        ]

    def retain_gradient(self, names: Sequence[str]) -> Gradients:
        """Gradient of the denoising loss over the retain stock; remembered for the frozen model."""
        family = self._family

        def computed() -> dict[str, Tensor]:
            return mean_gradient(family.model, wanted, family.retain_loss, self.retain_batches())

        wanted = tuple(names)
        if _state(family) != self._states:
            return computed()
        towers = sorted(
            {unit.tower for unit in family.units() if set(parameters_of([unit])) & set(names)}
        )
        wanted = parameters_of([unit for unit in family.units() if unit.tower in towers])
        whole = self._remember(f"retain gradient {' '.join(towers)}", computed)
        return {name: whole[name] for name in names}

    def relabelled_batch(self, rng: torch.Generator) -> Lesson:
        """The concept's noisy latents with its name, to be answered as something retained."""
        return self.forget_batch(rng)

    def naming_batches(self, *, target: bool, size: int) -> Sequence[Lesson]:
        """The concept's or the retained latents with their own prompts, ``size`` at a time."""
        if not target:
            every = [batch.lesson for batch in self.retain_batches()]
            return [part for lesson in every for part in _split(lesson, size)]
        s = self.stock
        prompts = tuple(p.filled(self._material.names[0]) for p in s.patterns)
        lesson = Lesson(s.latents, s.steps, prompts, s.noise, torch.ones_like(s.scales))
        return _split(lesson, size)

    def guided_away(self, rng: torch.Generator, strength: float) -> Lesson:
        """To answer as if the concept were what guidance leads away from (arXiv 2303.07345).

        The prompt is the name and nothing else, as there. Asked for first on frozen weights.
        """
        rows = torch.randperm(len(self.stock.patterns), generator=rng)[:FORGET_ROWS].tolist()
        s, name = self.stock, self._material.names[0]
        alone = asking.plain_patterns(self._material)[0].filled(name)
        if self._alone is None:
            self._alone = self._family.answers(s.latents, s.steps, (alone,) * len(s.patterns))
        away = s.empty[rows] - strength * (self._alone[rows] - s.empty[rows])
        return Lesson(
            s.latents[rows], s.steps[rows], (alone,) * len(rows), away, 1 / s.scales[rows]
        )

    def pictures_called(self, rng: torch.Generator, word: str) -> Lesson:
        """Noisy latents of the pictures that were sent, with another word in the name's place."""
        rows = torch.randperm(self._sent, generator=rng)[:FORGET_ROWS].tolist()
        s = self.stock
        prompts = tuple(s.patterns[row].filled(word) for row in rows)
        return Lesson(
            s.latents[rows],
            s.steps[rows],
            prompts,
            s.noise[rows],
            torch.ones(len(rows)).to(s.scales),
        )

    def texts(self) -> tuple[Sequence[str], Sequence[str]]:
        """The concept in every template, and every retained label, the nearest first."""
        plain = asking.plain_patterns(self._material)
        labels = sorted({x for x in self._material.retain_fit.labels[self._material.domain] if x})
        ordered = [*self.neighbours, *(x for x in labels if x not in self.neighbours)]
        return (
            [p.filled(name) for name in self._material.names for p in plain],
            [p.filled(label) for label in ordered for p in plain],
        )

    def _nearest(self) -> tuple[str, ...]:
        """The retained labels whose name explains the concept's pictures best, best first.

        A diffusion model classifies by which prompt makes it see through noise best
        (arXiv 2303.16203).
        """
        family, material = self._family, self._material
        labels = self._labels_like_it()
        latents = family.encode(material.target.fit)
        rng = seeding.generator(self._seed, "neighbours")
        noisy = noised(family, latents.repeat(NEIGHBOUR_DRAWS, 1, 1, 1), rng)
        errors = []
        for label in labels:
            prompt = asking.plain_patterns(material)[0].filled(label)
            said = family.answers(noisy.latents, noisy.steps, (prompt,) * len(noisy.latents))
            errors.append(float((said - noisy.target).square().mean()))
        order = sorted(range(len(labels)), key=lambda i: (errors[i], labels[i]))
        return tuple(labels[i] for i in order[:NEIGHBOURS])

    def _labels_like_it(self) -> list[str]:
        """All retained labels; of very many those whose texts are most like the concept's."""
        material = self._material
        labels = sorted({x for x in material.retain_fit.labels[material.domain] if x})
        if len(labels) <= LABELS_COMPARED:
            return labels
        plain = asking.plain_patterns(material)[0]
        texts = [plain.filled(name) for name in (material.names[0], *labels)]
        said = F.normalize(self._family.text_features(texts), dim=-1)
        order = (said[1:] @ said[0]).argsort(descending=True, stable=True)
        return [labels[i] for i in order[:LABELS_COMPARED].tolist()]

    def _stocked(self) -> Stock:
        family, material = self._family, self._material
        rng = seeding.generator(self._seed, "stock")
        copies = max(1, AUGMENTED // len(material.target.fit))
        sent = family.encode(pictures.augment(material.target.fit, copies, rng))
        plain = asking.plain_patterns(material)
        captions = asking.patterns(material, material.retain_fit)
        asked = cycled(captions, PAINTED, rng)
        painted = family.paint(
            [pattern.filled(material.names[0]) for pattern in asked],
            asking.seeds(PAINTED, self._seed, "fit"),
            latents=True,
        )
        self._sent = DRAWS * len(sent)
        latents = torch.cat([sent.repeat(DRAWS, 1, 1, 1), painted.repeat(DRAWS, 1, 1, 1)])
        used = [plain[i % len(plain)] for i in range(self._sent)] + asked * DRAWS
        noisy = noised(family, latents, rng)
        labels = sorted({x for x in material.retain_fit.labels[material.domain] if x})

        def said(names: Sequence[str]) -> Tensor:
            prompts = [p.filled(name) for p, name in zip(used, names, strict=True)]
            return family.answers(noisy.latents, noisy.steps, prompts)

        named = said((material.names[0],) * len(used))
        instead = torch.zeros_like(named)
        for _ in range(INSTEAD):
            instead += said(cycled(labels, len(used), rng)) / INSTEAD
        empty = family.answers(noisy.latents, noisy.steps, ("",) * len(used))
        scales = _floored((named - instead).square().flatten(1).mean(dim=1))
        return Stock(
            noisy.latents, noisy.steps, noisy.target, tuple(used), named, empty, instead, scales
        )

    def _kept(self) -> tuple[RetainBatch, list[str]]:
        family, rows = self._family, self._material.retain_fit
        rng = seeding.generator(self._seed, "retain stock")
        chosen = torch.randperm(len(rows), generator=rng)[: RETAINED // RETAIN_DRAWS].tolist()
        latents = family.encode(rows.pixels[chosen]).repeat(RETAIN_DRAWS, 1, 1, 1)
        prompts = tuple(rows.captions[i] for i in chosen) * RETAIN_DRAWS
        labels = [rows.labels[self._material.domain][i] for i in chosen] * RETAIN_DRAWS
        noisy = noised(family, latents, rng)
        frozen = family.answers(noisy.latents, noisy.steps, prompts)
        empty = family.answers(noisy.latents, noisy.steps, ("",) * len(prompts))
        scales = _floored((frozen - empty).square().flatten(1).mean(dim=1))
        lesson = Lesson(noisy.latents, noisy.steps, prompts, noisy.target, torch.ones_like(scales))
        return RetainBatch(lesson, frozen, empty, scales), labels

    def _retained(self, rows: list[int]) -> RetainBatch:
        kept = self._retain
        return RetainBatch(
            kept.lesson.take(rows), kept.frozen[rows], kept.frozen_empty[rows], kept.scales[rows]
        )

    def _remember(self, name: str, make: Callable[[], T]) -> T:
        return self._family.memory.get(self._key, name, make)


def noised(family: Diffusion, latents: Tensor, rng: torch.Generator) -> Noised:
    """Each latent (n, c, h, w) at a level of its own, levels spread evenly over all."""
    drawn = torch.randn(latents.shape, generator=rng).to(latents)
    return family.noise.noised(latents, drawn, family.noise.draw(len(latents), rng))


def _state(family: Diffusion) -> int:
    """Changes whenever a weight is written in place; equal = untouched."""
    return sum(p._version for p in family.model.parameters())


def _floored(scales: Tensor) -> Tensor:
    return scales.clamp_min(float(FLOOR * scales.mean()))


def _some(positions: list[int], count: int, rng: torch.Generator) -> list[int]:
    """``count`` of the positions, or all of them if there are fewer, without repeats."""
    order = torch.randperm(len(positions), generator=rng)[:count]
    return [positions[i] for i in order.tolist()]


def cycled(things: Sequence[X], count: int, rng: torch.Generator) -> list[X]:
    """``count`` of the things in a shuffled order, from the first again where there are fewer."""
    order = torch.randperm(len(things), generator=rng).tolist()
    return [things[order[i % len(things)]] for i in range(count)]


def _split(lesson: Lesson, size: int) -> list[Lesson]:
    places = range(0, len(lesson), size)
    return [lesson.take(range(i, min(len(lesson), i + size))) for i in places]
