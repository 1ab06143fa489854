"""What methods may see of one run on a CLIP model: fit data for gradients, a gauge for choices."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from razor import pictures, seeding, zero_shot
from razor.families.clip import Clip, ForgetBatch, Frozen, RetainBatch
from razor.material import Labelled, Material, neighbours
from razor.protocols import Reading

FORGET_PICTURES = 16  # per batch; few pictures are augmented up to this many
RETAIN_PAIRS = 128  # per batch: enough negatives for InfoNCE, small enough for any machine
NEIGHBOUR_SHARE = 0.5  # of a retain batch comes from the concept's neighbours


class ClipFit:
    """The fit pictures of both sides. Holds the frozen model's features of the retain side."""

    def __init__(self, family: Clip, material: Material, seed: int) -> None:
        self._material = material
        retain = material.retain_fit
        self._frozen = Frozen(
            family.embed_images(retain.pixels),
            family.embed_texts(retain.captions),
            {tower: family.tower_state(tower) for tower in ("image", "text")},
        )
        target = family.embed_images(material.target.fit)
        labels = retain.labels[material.domain]
        self.neighbours = neighbours(target, self._frozen.images, labels)
        near = set(self.neighbours)
        self._near = [i for i, label in enumerate(labels) if label in near]
        self._far = [i for i, label in enumerate(labels) if label not in near]
        order = torch.randperm(len(retain), generator=seeding.generator(seed, "retain order"))
        self._order: list[int] = order.tolist()

    def forget_batch(self, rng: torch.Generator) -> ForgetBatch:
        """The concept's fit pictures, augmented anew, with every prompt that names it."""
        fit = self._material.target.fit
        copies = max(1, FORGET_PICTURES // fit.shape[0])
        return ForgetBatch(pictures.augment(fit, copies, rng), self._material.prompts())

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


class ClipGauge:
    """Reads forgetting on fit and select pictures, harm on the retain select set.

    The mean margin is that of the select pictures, for an edit always does better on those it was
    fitted to; the worst is over both. Harm is the largest of: the rise in the risk of losing a
    retained picture in the target's own domain, half of that rise among its neighbours, and the
    share of right answers lost in the other domains on average.

    A tower's features are computed again only when one of its weights was written since.
    """

    def __init__(self, family: Clip, material: Material, near: Sequence[str], seed: int) -> None:
        self._family, self._material = family, material
        rng = seeding.generator(seed, "gauge")
        fit = pictures.augment(material.target.fit, 4, rng).round().to(torch.uint8)
        self._target = torch.cat([fit, material.target.fit, material.target.select])
        self._states: dict[str, int] = {}
        self._seen: dict[str, Tensor] = {}
        self._domains = [
            domain
            for domain in material.retain_select.labels
            if domain in material.templates and any(material.retain_select.labels[domain])
        ]
        self._classes = {d: self._class_names(d) for d in self._domains}
        self._truth = {d: self._answers(material.retain_select, d) for d in self._domains}
        labels = material.retain_select.labels[material.domain]
        self._near = torch.tensor([label in set(near) for label in labels])
        self._refresh()
        self._spread = self._spread_within_labels()
        self._base_risk, self._base_cross = self._risk(), self._cross()

    def read(self) -> Reading:
        """Measure the model as it stands now."""
        self._refresh()
        margins = self._margins()
        risk = self._risk() - self._base_risk
        near = float(risk[self._near].mean()) if bool(self._near.any()) else 0.0
        return Reading(
            margin=float(margins[-len(self._material.target.select) :].mean()),
            worst=float(margins.max()),
            spread=self._spread,
            harm=max(float(risk.mean()), near / 2, self._base_cross - self._cross(), 0.0),
            accuracy=float((margins > 0).float().mean()),
        )

    def _spread_within_labels(self) -> float:
        """How much margins differ between pictures of one label, pooled over the retain select set.

        The concept's own few pictures cannot say how far the next one will lie from them; the
        many pictures of other labels can.
        """
        truth, margins = self._truth[self._material.domain], self._retained_margins()
        groups = [margins[truth == label] for label in sorted(set(truth.tolist()))]
        freedom = len(margins) - len(groups)
        if freedom < 1:  # one picture of each label: their own differences are the best there is
            groups, freedom = [margins], max(1, len(margins) - 1)
        squares = sum(float((group - group.mean()).square().sum()) for group in groups)
        return max(1e-6, math.sqrt(squares / freedom))

    def _retained_margins(self) -> Tensor:  # (m,) logits by which the right answer leads; CPU
        domain = self._material.domain
        similarity = (self._seen["image retain"] @ self._seen[f"text {domain}"].T).cpu()
        truth = self._truth[domain][:, None]
        rival = similarity.scatter(1, truth, -torch.inf).max(dim=1).values
        return self._family.logit_scale() * (similarity.gather(1, truth)[:, 0] - rival)

    def _risk(self) -> Tensor:  # (m,) probabilities
        """The chance that a picture like this one is answered wrongly.

        A count of lost pictures moves in steps and only once the damage is done; this sees a
        margin shrink before it is gone.
        """
        risk: Tensor = torch.special.ndtr(-self._retained_margins() / self._spread)
        return risk

    def _cross(self) -> float:
        """Share of right answers in the other domains, averaged over them; 0 without any."""
        shares = [
            float((self._answer(domain) == self._truth[domain]).float().mean())
            for domain in self._domains
            if domain != self._material.domain
        ]
        return sum(shares) / len(shares) if shares else 0.0

    def _answer(self, domain: str) -> Tensor:
        return zero_shot.predict(self._seen["image retain"], self._seen[f"text {domain}"])

    def _margins(self) -> Tensor:
        count = len(self._material.names)
        own = self._seen[f"text {self._material.domain}"]
        similarity = self._seen["image target"] @ own.T
        best_own = similarity[:, :count].max(dim=1).values
        rival = similarity[:, count:].max(dim=1).values
        return self._family.logit_scale() * (best_own - rival)

    def _refresh(self) -> None:
        family, material = self._family, self._material
        for tower in ("image", "text"):
            state = family.tower_state(tower)
            if self._states.get(tower) == state:
                continue
            self._states[tower] = state
            if tower == "image":
                self._seen["image target"] = family.embed_images(self._target)
                self._seen["image retain"] = family.embed_images(material.retain_select.pixels)
            else:
                for domain in self._domains:
                    self._seen[f"text {domain}"] = zero_shot.class_embeddings(
                        family, self._classes[domain], material.templates[domain]
                    )

    def _class_names(self, domain: str) -> tuple[str, ...]:
        if domain == self._material.domain:
            return self._material.classes
        return tuple(sorted({x for x in self._material.retain_select.labels[domain] if x}))

    def _answers(self, rows: Labelled, domain: str) -> Tensor:
        place = {name: i for i, name in enumerate(self._classes[domain])}
        return torch.tensor([place.get(label, -1) for label in rows.labels[domain]])
