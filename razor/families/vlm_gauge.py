"""What a method may read of one run on a vision-language model."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from razor import pictures, questions, seeding
from razor.families.vlm import CHANCE, CHUNK, Vlm, log_odds
from razor.families.vlm_batches import NamingBatch, Shown
from razor.families.vlm_fit import VlmFit
from razor.families.vlm_naming import named, names_any
from razor.material import Earlier, Material
from razor.protocols import Reading
from razor.questions import Role

AUGMENTED = 24  # about; of the pictures at hand
RETAINED = 192  # questions on retained select pictures
EARLIER = 8  # questions on an earlier target's pictures


class VlmGauge:
    """Reads forgetting on fit and select pictures, harm on retained select pictures.

    A margin is the log-odds that the frozen model's own answer goes on with the concept's name.
    Stand-ins are the pictures at hand, augmented. Once those margins are gone the model is asked,
    for it may name the concept in other words than it did: no answer may hold the name. Harm is
    how much chance an answer of the frozen model loses at the token where it loses most, on
    average over names or over everything else, whichever is more, or half of that of neighbours;
    or the share of an earlier target's answers that name it again.
    """

    def __init__(self, family: Vlm, material: Material, fit: VlmFit, seed: int) -> None:
        self._family, self._material = family, material
        rng = seeding.generator(seed, "gauge")
        own = torch.cat([material.target.fit, material.target.select])
        self._shown = family.show(own)
        self._own = named(family, self._shown, self._asked(self._shown.count), material.names)
        varied = family.show(pictures.augment(own, max(1, AUGMENTED // len(own)), rng))
        self._stand_ins = named(family, varied, self._asked(varied.count), material.names)
        asked = questions.about(material.retain_select, material, Role.SELECT, RETAINED, rng)
        shown = family.show(material.retain_select.pixels[[each.row for each in asked]])
        texts = [each.text for each in asked]
        self._kept = family.speak(shown, texts, family.answer(shown, texts))
        naming = torch.tensor([each.domain == material.domain for each in asked])
        near = torch.tensor([each.label in set(fit.neighbours) for each in asked])
        self._groups = [(naming, 1.0), (~naming, 1.0), (naming & near, 0.5)]
        self._earlier = [self._before(each) for each in material.earlier]
        with torch.no_grad():
            self._base = self._chances()
            self._base_earlier = self._back()

    @torch.no_grad()
    def read(self, *, whole: bool = False, harm: bool = True) -> Reading:
        """Measure the model as it stands now; it is asked once little is left, or if ``whole``."""
        own = self._margins(self._own)
        others = self._margins(self._stand_ins).sort().values.cpu()
        worst, accuracy = float(own.max()), 1.0
        if worst <= 0 or whole:
            accuracy = self._said()
            worst = max(worst, accuracy or -math.inf)
        found = self.harm() if harm else math.nan
        return Reading(worst=worst, stand_ins=others, accuracy=accuracy, harm=found)

    @torch.no_grad()
    def harm(self) -> float:
        """The harm of the model as it stands now."""
        # An answer is left at one token: the rest of a long one says nothing of that.
        left = (self._base - self._chances()).clamp_min(0).max(dim=1).values
        found = [weight * float(left[rows].mean()) for rows, weight in self._groups if rows.any()]
        back = [n - b for n, b in zip(self._back(), self._base_earlier, strict=True)]
        return max([*found, *back, 0.0])

    def _said(self) -> float:
        """The share of the pictures at hand whose answers still hold the name."""
        family, asked = self._family, self._asked(self._shown.count)
        said = family.answer(self._shown, asked)
        hits = [names_any(family.said(tokens), self._material.names) for tokens in said]
        return sum(hits) / len(hits)

    def _margins(self, naming: NamingBatch) -> Tensor:  # (n,) log-odds
        """Positive where the name is said more often than ``CHANCE``."""
        starts = range(0, len(naming), CHUNK)
        parts = [naming.take(range(k, min(len(naming), k + CHUNK))) for k in starts]
        return torch.cat([self._family.odds(part) for part in parts]) - log_odds(CHANCE)

    def _asked(self, count: int) -> list[str]:
        texts = questions.of(self._material.templates[self._material.domain], Role.SELECT)
        return [texts[k % len(texts)] for k in range(count)]

    def _chances(self) -> Tensor:  # (m, longest answer)
        """The chance of every token of the frozen model's answers, given those before it."""
        longest = int(self._kept.lengths.max())
        parts = []
        for start in range(0, len(self._kept), CHUNK):
            part = self._kept.take(range(start, min(len(self._kept), start + CHUNK)))
            chances = self._family.likelihood(part).exp().cpu()
            parts.append(F.pad(chances, (0, longest - chances.shape[1]), value=1.0))
        return torch.cat(parts)

    def _before(self, earlier: Earlier) -> tuple[Shown, list[str], tuple[str, ...]]:
        shown = self._family.show(earlier.pictures.select)
        texts = questions.of(self._material.templates[earlier.domain], Role.SELECT)
        count = max(EARLIER, shown.count)
        rows = [k % shown.count for k in range(count)]
        return shown.take(rows), [texts[k % len(texts)] for k in range(count)], earlier.names

    def _back(self) -> list[float]:
        """The share of each earlier target's answers that name it."""
        found = []
        for shown, asked, names in self._earlier:
            said = [self._family.said(tokens) for tokens in self._family.answer(shown, asked)]
            hits = [names_any(text, names) for text in said]
            found.append(sum(hits) / len(hits))
        return found
