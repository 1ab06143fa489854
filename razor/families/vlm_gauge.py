"""What a method may read of one run on a vision-language model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from razor import pictures, questions, seeding
from razor.families.vlm import CHUNK, Shown, Spoken, Vlm
from razor.families.vlm_fit import VlmFit
from razor.material import Earlier, Material
from razor.protocols import Reading
from razor.questions import Role

AUGMENTED = 24  # about; of the pictures at hand
RETAINED = 192  # questions on retained select pictures
EARLIER = 8  # questions on an earlier target's pictures
#: A name that is said with no more than this chance counts as forgotten: one sampled answer in a
#: hundred at most holds it.
CHANCE = 0.01


@dataclass(frozen=True)
class _Naming:
    """Questions whose answers named the concept in the frozen model, and where they begin to."""

    spoken: Spoken
    at: Tensor  # (n,): the place in the answer where the name begins

    def margins(self, family: Vlm) -> Tensor:  # (n,) log-odds that the name is said there
        """Positive where the name is said more often than ``CHANCE``."""
        found = []
        for start in range(0, len(self.spoken), CHUNK):
            rows = range(start, min(len(self.spoken), start + CHUNK))
            each = family.likelihood(self.spoken.take(rows))
            found.append(each.gather(1, self.at[list(rows)][:, None])[:, 0])
        chance = torch.cat(found).double().exp().clamp(1e-12, 1 - 1e-12)
        return (chance.log() - (1 - chance).log() - math.log(CHANCE / (1 - CHANCE))).float()


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
        self._own = self._named(self._shown)
        varied = family.show(pictures.augment(own, max(1, AUGMENTED // len(own)), rng))
        self._stand_ins = self._named(varied)
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
    def read(self, *, whole: bool = False) -> Reading:
        """Measure the model as it stands now; it is asked once little is left, or if ``whole``."""
        own = self._own.margins(self._family)
        others = self._stand_ins.margins(self._family).sort().values.cpu()
        worst, accuracy = float(own.max()), 1.0
        if worst <= 0 or whole:
            accuracy = self._said()
            worst = max(worst, accuracy or -math.inf)
        return Reading(worst=worst, stand_ins=others, accuracy=accuracy, harm=self._harm())

    def _said(self) -> float:
        """The share of the pictures at hand whose answers still hold the name."""
        family, asked = self._family, self._asked(self._shown.count)
        said = family.answer(self._shown, asked)
        return sum(self._names(family.said(tokens)) for tokens in said) / len(said)

    def _named(self, shown: Shown) -> _Naming:
        """The answers that name the concept; all of them where none does."""
        family, asked = self._family, self._asked(shown.count)
        said = family.answer(shown, asked)
        spoken = family.speak(shown, asked, said)
        at = [self._begins(tokens) for tokens in said]
        rows = [k for k, place in enumerate(at) if place is not None]
        if not rows:
            return _Naming(spoken, torch.zeros(len(said), dtype=torch.long))
        places = torch.tensor([at[k] for k in rows])
        return _Naming(spoken.take(rows), places.to(family.device))

    def _begins(self, tokens: list[int]) -> int | None:
        """The token with which the name begins, or None where the answer does not hold it."""
        if not self._names(self._family.said(tokens)):
            return None
        # The last place after which the rest alone still holds the name.
        return max(k for k in range(len(tokens)) if self._names(self._family.said(tokens[k:])))

    def _names(self, text: str) -> bool:
        return any(questions.holds(text, name) for name in self._material.names)

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

    def _harm(self) -> float:
        # An answer is left at one token: the rest of a long one says nothing of that.
        left = (self._base - self._chances()).clamp_min(0).max(dim=1).values
        found = [weight * float(left[rows].mean()) for rows, weight in self._groups if rows.any()]
        back = [n - b for n, b in zip(self._back(), self._base_earlier, strict=True)]
        return max([*found, *back, 0.0])

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
            hits = [any(questions.holds(text, name) for name in names) for text in said]
            found.append(sum(hits) / len(hits))
        return found
