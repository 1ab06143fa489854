"""The data that gradients may see in one run on a CLIP model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from razor import pictures, seeding, wordings, zero_shot
from razor.families.clip import Clip, ForgetBatch, Frozen, KeptAway, NamingBatch, RetainBatch
from razor.gradients import Gradients, mean_gradient, parameters_of
from razor.material import Earlier, Material, neighbours
from razor.memory import T

FORGET_WORDINGS = 4  # other sentences, half and misspelt names; drawn for each forget batch
FORGET_PICTURES = 16  # per batch, drawn from the augmented ones
AUGMENTED_PICTURES = 64  # of the concept in all; few pictures are augmented up to this many
RETAIN_PAIRS = 128  # per batch: enough negatives for InfoNCE, small enough for any machine
NEIGHBOUR_SHARE = 0.5  # of a retain batch comes from the concept's neighbours
TOWERS = ("image", "text")


class ClipFit:
    """The fit pictures of both sides. Holds the frozen model's features of the retain side.

    Made before any weight is edited: what is frozen is the model as the run began.
    """

    def __init__(self, family: Clip, material: Material, seed: int) -> None:
        self._family, self._material = family, material
        retain = material.retain_fit
        self._states = {tower: family.tower_state(tower) for tower in TOWERS}
        self._key = f"{seed}/{material.retain_fit_digest}"
        family.retain((retain, material.retain_select, material.retain_test))
        self._frozen = Frozen(
            family.embed_images(retain.pixels),
            self._remember("texts", lambda: family.embed_texts(retain.captions)),
            self._states,
        )
        fit = material.target.fit
        self.neighbours = neighbours(
            family.embed_images(fit), self._frozen.images, retain.labels[material.domain]
        )
        copies = max(1, AUGMENTED_PICTURES // fit.shape[0])
        self._pixels = pictures.augment(fit, copies, seeding.generator(seed, "augment"))
        self._features: dict[int, Tensor] = {}  # of the augmented pictures that were asked for
        self._expected = self._expected_picture()
        self._wordings = self._sentences()
        self._earlier = {
            each.names: family.embed_images(each.pictures.fit) for each in material.earlier
        }
        self._away: tuple[KeptAway, ...] | None = None
        labels = retain.labels[material.domain]
        near = set(self.neighbours)
        self._near = [i for i, label in enumerate(labels) if label in near]
        self._far = [i for i, label in enumerate(labels) if label not in near]
        order = torch.randperm(len(retain), generator=seeding.generator(seed, "retain order"))
        self._order: list[int] = order.tolist()

    def forget_batch(
        self, rng: torch.Generator, *, by_name: bool = False, scoring: bool = False
    ) -> ForgetBatch:
        """Augmented fit pictures of the concept, drawn anew, with every prompt that names it.

        Some other sentences, half and misspelt names come along. ``by_name`` puts the picture that
        the frozen model expects of the name in the place of the pictures' features, unless units
        are scored.
        """
        drawn = torch.randperm(len(self._pixels), generator=rng)[:FORGET_PICTURES]
        words = torch.randperm(len(self._wordings), generator=rng)[:FORGET_WORDINGS].tolist()
        return ForgetBatch(
            self._pixels[drawn],
            (*self._material.prompts(), *(self._wordings[i] for i in words)),
            (lambda: self._expected) if by_name and not scoring else lambda: self._frozen_of(drawn),
            self._states,
            self._kept_away(),
        )

    def retain_batch(self, rng: torch.Generator) -> RetainBatch:
        """Random retain pairs, half of them from the concept's neighbours."""
        near = round(RETAIN_PAIRS * NEIGHBOUR_SHARE) if self._far else RETAIN_PAIRS
        return self._batch(
            [
                *_draw(self._near, near, rng),
                *_draw(self._far, RETAIN_PAIRS - near, rng),
            ]
        )

    def retain_batches(self) -> Sequence[RetainBatch]:
        """Every retain fit pair once, in a seeded order."""
        return [
            self._batch(self._order[start : start + RETAIN_PAIRS])
            for start in range(0, len(self._order), RETAIN_PAIRS)
        ]

    def retain_gradient(self, names: Sequence[str]) -> Gradients:
        """Gradient of the retain loss over every retain pair; remembered for the frozen model."""
        family = self._family

        def computed() -> dict[str, Tensor]:
            batches = self.retain_batches()
            return mean_gradient(family.model, wanted, family.retain_loss, batches)

        wanted = tuple(names)
        if any(family.tower_state(tower) != state for tower, state in self._states.items()):
            return computed()
        towers = sorted(
            {unit.tower for unit in family.units() if set(parameters_of([unit])) & set(names)}
        )
        wanted = parameters_of([unit for unit in family.units() if unit.tower in towers])
        whole = self._remember(f"retain gradient {' '.join(towers)}", computed)
        return {name: whole[name] for name in names}

    def relabelled_batch(self, rng: torch.Generator) -> NamingBatch:
        """Augmented fit pictures of the concept, each with a random label of something retained."""
        own, classes = len(self._material.names), len(self._material.classes)
        drawn = torch.randperm(len(self._pixels), generator=rng)[:FORGET_PICTURES]
        wrong = torch.randint(own, classes, (len(drawn),), generator=rng)
        return self._naming(self._pixels[drawn], wrong)

    def naming_batches(self, *, target: bool, size: int) -> Sequence[NamingBatch]:
        """The concept's or the retained fit pictures with their own labels."""
        if target:
            pixels = self._pixels
            answers = torch.zeros(len(pixels), dtype=torch.long)
        else:
            rows = self._material.retain_fit.take(self._order)
            place = {name: i for i, name in enumerate(self._material.classes)}
            pixels = rows.pixels
            answers = torch.tensor([place[x] for x in rows.labels[self._material.domain]])
        return [
            self._naming(pixels[start : start + size], answers[start : start + size])
            for start in range(0, len(pixels), size)
        ]

    def _naming(self, pixels: Tensor, answers: Tensor) -> NamingBatch:
        material = self._material
        templates = material.templates[material.domain]
        prompts = tuple(t.format(name) for name in material.classes for t in templates)
        return NamingBatch(pixels, answers, prompts, len(material.classes))

    def _sentences(self) -> list[str]:
        """Texts that mean the concept and are none of its prompts."""
        material = self._material
        templates = material.templates[material.domain]
        return [
            *(each.format(name) for name in material.names for each in wordings.SENTENCES),
            *(
                templates[i % len(templates)].format(wording)
                for i, wording in enumerate(material.wordings())
            ),
        ]

    def _frozen_of(self, drawn: Tensor) -> Tensor:  # (m,) -> (m, d), unit length
        """Features of these augmented pictures, each made once; while their tower stands."""
        rows = drawn.tolist()
        new = [row for row in rows if row not in self._features]
        if new:
            made = self._family.embed_images(self._pixels[new])
            self._features.update(zip(new, made, strict=True))
        return torch.stack([self._features[row] for row in rows])

    def _kept_away(self) -> tuple[KeptAway, ...]:
        """Earlier targets, held to where they were when the first batch of this run was asked for.

        Not to where they were in the frozen model: an earlier target of the same request was still
        known to that.
        """
        if self._away is None:
            self._away = tuple(self._held(each) for each in self._material.earlier)
        return self._away

    def _held(self, earlier: Earlier) -> KeptAway:
        family = self._family
        texts = tuple(
            template.format(name)
            for name in earlier.names
            for template in self._material.templates[earlier.domain]
        )
        name = F.normalize(family.embed_texts(texts).mean(dim=0), dim=-1)
        pixels, features = earlier.pictures.fit, self._earlier[earlier.names]
        return KeptAway(pixels, texts, features, family.embed_images(pixels) @ name)

    def _expected_picture(self) -> Tensor:  # (1, d), unit length
        """Where the frozen model expects a picture of the concept, by its name alone.

        The mean retained picture, moved as the name differs from the mean retained name; how far,
        is fitted over the retained labels (least squares). No picture of the concept goes in, so
        nothing that is particular to the few at hand does.
        """
        material, family = self._material, self._family
        templates = material.templates[material.domain]
        column = material.retain_fit.labels[material.domain]
        labels = sorted(set(column))
        own = torch.tensor([labels.index(label) for label in column], device=family.device)
        images = torch.stack([self._frozen.images[own == i].mean(0) for i in range(len(labels))])
        texts = zero_shot.class_embeddings(family, labels, templates)
        name = zero_shot.class_embeddings(family, material.names, templates).mean(dim=0)
        image, text = images.mean(dim=0), texts.mean(dim=0)
        apart = texts - text
        scale = ((images - image) * apart).sum() / apart.square().sum().clamp_min(1e-12)
        return F.normalize(image + scale * (name - text), dim=0)[None]

    def _remember(self, name: str, make: Callable[[], T]) -> T:
        return self._family.memory.get(self._key, name, make)

    def _batch(self, positions: list[int]) -> RetainBatch:
        retain = self._material.retain_fit
        return RetainBatch(
            retain.pixels[positions],
            tuple(retain.captions[i] for i in positions),
            self._frozen.take(positions),
        )


def _draw(positions: list[int], count: int, rng: torch.Generator) -> list[int]:
    """``count`` of the positions, or all of them if there are fewer, without repeats."""
    order = torch.randperm(len(positions), generator=rng)[:count]
    return [positions[i] for i in order.tolist()]
