"""What a method may read of one run on a CLIP model: how much is forgotten, how much is harmed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from razor import pictures, seeding, zero_shot
from razor.families.clip import Clip
from razor.material import Labelled, Material
from razor.protocols import Reading

GAUGE_WORDINGS = 8  # half and misspelt names that the gauge asks for besides the name
STAND_INS = 2048  # about; made from the pictures at hand


class ClipGauge:
    """Reads forgetting on fit and select pictures, harm on the retain select set.

    A stand-in is a picture at hand, moved by the difference of two retained pictures of one label:
    so do pictures of one thing differ to this model. Harm is the largest of: the rise in the risk
    of losing a retained picture in the target's own domain, half of that rise among its neighbours,
    the share of right answers lost in the other domains on average, and the share of pictures of
    earlier targets that are recognised again.

    Features are computed when they are asked for, and again only when a weight of their tower was
    written since.
    """

    def __init__(self, family: Clip, material: Material, near: Sequence[str], seed: int) -> None:
        self._family, self._material = family, material
        rng = seeding.generator(seed, "gauge")
        fit = pictures.augment(material.target.fit, 4, rng).round().to(torch.uint8)
        own = (material.target.fit, material.target.select)
        self._real = sum(len(part) for part in own)
        self._target = (*own, fit)
        self._seen: dict[str, tuple[int, Tensor]] = {}  # what -> its tower's state then, features
        self._domains = [
            domain
            for domain in material.retain_select.labels
            if domain in material.templates and any(material.retain_select.labels[domain])
        ]
        self._own = len(material.names) + len(material.wordings()[:GAUGE_WORDINGS])
        self._classes = {d: self._class_names(d) for d in self._domains}
        self._truth = {d: self._answers(material.retain_select, d) for d in self._domains}
        labels = material.retain_select.labels[material.domain]
        self._near = torch.tensor([label in set(near) for label in labels])
        self._made = self._makers()
        self._pairs = _pairs_within(self._truth[material.domain], STAND_INS // self._real, rng)
        self._spread = self._spread_within_labels()
        self._base_risk, self._base_cross = self._risk(), self._cross()
        self._base_earlier = self._earlier()

    def read(self, *, whole: bool = False, harm: bool = True) -> Reading:
        """Measure the model as it stands now."""
        margins = self._margins(self._features("image target"))
        return Reading(
            worst=float(margins.max()),
            stand_ins=self._margins(self._stand_ins()).sort().values.cpu(),
            accuracy=float((margins > 0).float().mean()),
            harm=self.harm() if harm else math.nan,
        )

    def harm(self) -> float:
        """The harm of the model as it stands now."""
        risk = self._risk() - self._base_risk
        near = float(risk[self._near].mean()) if bool(self._near.any()) else 0.0
        returned = max((self._earlier() - self._base_earlier).tolist(), default=0.0)
        return max(float(risk.mean()), near / 2, self._base_cross - self._cross(), returned, 0.0)

    def _stand_ins(self) -> Tensor:  # (m, d), unit length
        retained = self._features("image retain")
        varied = retained[self._pairs[0]] - retained[self._pairs[1]]
        own = self._features("image target")[: self._real]
        return F.normalize(own[:, None] + varied[None], dim=-1).flatten(0, 1)

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
        similarity = (self._features("image retain") @ self._features(f"text {domain}").T).cpu()
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
        return zero_shot.predict(self._features("image retain"), self._features(f"text {domain}"))

    def _margins(self, images: Tensor) -> Tensor:  # (n, d) -> (n,) logits
        count = self._own
        similarity = images @ self._features(f"text {self._material.domain}").T
        best_own = similarity[:, :count].max(dim=1).values
        rival = similarity[:, count:].max(dim=1).values
        return self._family.logit_scale() * (best_own - rival)

    def _earlier(self) -> Tensor:  # (k,) probabilities; CPU
        """The chance that a picture of each earlier target is recognised as that target."""
        chances = []
        for number, earlier in enumerate(self._material.earlier):
            rivals = self._features(f"text {earlier.domain}")
            if earlier.domain == self._material.domain:
                rivals = rivals[self._own :]
            images = self._features(f"image earlier {number}")
            own = (images @ self._features(f"text earlier {number}").T).max(dim=1).values
            lead = self._family.logit_scale() * (own - (images @ rivals.T).max(dim=1).values)
            chances.append(torch.special.ndtr(lead / self._spread).mean().cpu())
        return torch.stack(chances) if chances else torch.zeros(0)

    def _features(self, what: str) -> Tensor:
        """The features of what is named so, of the model as it stands."""
        state = self._family.tower_state(what.partition(" ")[0])
        found = self._seen.get(what)
        if found is None or found[0] != state:
            found = self._seen[what] = (state, self._made[what]())
        return found[1]

    def _makers(self) -> dict[str, Callable[[], Tensor]]:
        """How the features of everything that is looked at are made."""
        family, material = self._family, self._material

        def pixels(*shown: Tensor) -> Callable[[], Tensor]:
            # One by one: those of the request are known from before, as they are.
            return lambda: torch.cat([family.embed_images(part) for part in shown])

        def classes(names: Sequence[str], domain: str) -> Callable[[], Tensor]:
            templates = material.templates[domain]
            return lambda: zero_shot.class_embeddings(family, names, templates)

        made = {
            "image target": pixels(*self._target),
            "image retain": pixels(material.retain_select.pixels),
            **{
                f"text {domain}": classes(self._classes[domain], domain) for domain in self._domains
            },
        }
        for number, earlier in enumerate(material.earlier):
            made[f"image earlier {number}"] = pixels(earlier.pictures.select)
            made[f"text earlier {number}"] = classes(earlier.names, earlier.domain)
        return made

    def _class_names(self, domain: str) -> tuple[str, ...]:
        if domain == self._material.domain:
            labels = self._material.classes[len(self._material.names) :]
            return (*self._material.names, *self._material.wordings()[:GAUGE_WORDINGS], *labels)
        return tuple(sorted({x for x in self._material.retain_select.labels[domain] if x}))

    def _answers(self, rows: Labelled, domain: str) -> Tensor:
        place = {name: i for i, name in enumerate(self._classes[domain])}
        return torch.tensor([place.get(label, -1) for label in rows.labels[domain]])


def _pairs_within(
    labels: Tensor,  # (n,)
    count: int,
    rng: torch.Generator,
) -> Tensor:  # (2, at most count) positions
    """Pairs of different pictures of one label, drawn at random; fewer where there are fewer."""
    same = (labels[:, None] == labels[None, :]) & ~torch.eye(len(labels), dtype=torch.bool)
    pairs = same.nonzero().T
    return pairs[:, torch.randperm(pairs.shape[1], generator=rng)[:count]]
