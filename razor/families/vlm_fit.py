"""The data that gradients may see in one run on a vision-language model.

What the frozen model answered is asked once, when the fit is made: it is what the edited model is
to go on saying of everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from api_schemas.shelf import UNNAMED
from razor import pictures, questions, seeding
from razor.families.vlm import Vlm
from razor.families.vlm_batches import ForgetBatch, NamingBatch, RetainBatch, Spoken
from razor.families.vlm_naming import named
from razor.gradients import Gradients, mean_gradient, parameters_of
from razor.material import Material, neighbours
from razor.memory import T
from razor.questions import Role

AUGMENTED = 160  # of the concept's pictures in all
NAMED, NAMED_ROWS = 128, 32  # the last of them with the answers that name them; of a batch of those
FORGET_ROWS, RETAIN_ROWS = 16, 64  # of a batch
RETAINED = 768  # questions on retained pictures in stock, at most
NAMING_SHARE = 0.75  # of a retain batch asks for the target's own domain
NEIGHBOUR_SHARE = 0.5  # of the naming questions of a batch are on pictures of neighbours
NEIGHBOURS = 5


class VlmFit:
    """The fit pictures of both sides with what the frozen model said of them."""

    def __init__(self, family: Vlm, material: Material, seed: int) -> None:
        self._family, self._material, self._seed = family, material, seed
        self._key = f"{seed}/{material.retain_fit_digest}/{material.domain}"
        self._states = _state(family)
        self._retained, self._centre = self._remember("features", self._where)
        own = family.embed(family.show(material.target.fit))
        self._concept = F.normalize((own - self._centre).mean(dim=0), dim=-1)
        labels = material.retain_fit.labels[material.domain]
        called = [k for k, label in enumerate(labels) if label != UNNAMED]
        self.neighbours = neighbours(
            F.normalize(own - self._centre, dim=-1),
            F.normalize(self._retained[called] - self._centre, dim=-1),
            [labels[k] for k in called],
            NEIGHBOURS,
        )
        self._spoken: Spoken | None = None
        copies = max(1, AUGMENTED // len(material.target.fit))
        rng = seeding.generator(seed, "augment")
        every = pictures.augment(material.target.fit, copies, rng)
        self._shown = family.show(every)
        varied = family.show(every[-NAMED:])
        self._naming = named(family, varied, self._questions(varied.count), material.names)
        self._stock, self._labels = self._remember("retain", self._kept)
        near = set(self.neighbours)
        self._near = [k for k, label in enumerate(self._labels) if label in near]
        self._far = [k for k, label in enumerate(self._labels) if label and label not in near]
        self._else = [k for k, label in enumerate(self._labels) if not label]

    def forget_batch(
        self, rng: torch.Generator, *, by_name: bool = False, scoring: bool = False
    ) -> ForgetBatch | NamingBatch:
        """Augmented fit pictures, drawn anew; ``by_name`` with the answers that name them."""
        if by_name:
            drawn = torch.randperm(len(self._naming), generator=rng)[:NAMED_ROWS].tolist()
            return self._naming.take(drawn)
        rows = torch.randperm(self._shown.count, generator=rng)[:FORGET_ROWS].tolist()
        return ForgetBatch(self._shown.take(rows), self._concept, self._centre)

    def retain_batch(self, rng: torch.Generator) -> RetainBatch:
        """Questions for names, half of them of neighbours, and for everything else."""
        naming = round(RETAIN_ROWS * NAMING_SHARE) if self._else else RETAIN_ROWS
        near = round(naming * NEIGHBOUR_SHARE) if self._far else naming
        rows = [*_some(self._near, near, rng), *_some(self._far, naming - near, rng)]
        return self._stock.take([*rows, *_some(self._else, RETAIN_ROWS - len(rows), rng)])

    def retain_batches(self) -> Sequence[RetainBatch]:
        """The whole stock once, in its order."""
        count = len(self._labels)
        return [
            self._stock.take(range(start, min(count, start + RETAIN_ROWS)))
            for start in range(0, count, RETAIN_ROWS)
        ]

    def retain_gradient(self, names: Sequence[str]) -> Gradients:
        """Gradient of the answers' likelihood over the stock; remembered for the frozen model."""
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

    def relabelled_batch(self, rng: torch.Generator) -> Spoken:
        """The concept's pictures, each asked for its name and answered as a retained one was."""
        rows = torch.randperm(self._shown.count, generator=rng)[:FORGET_ROWS].tolist()
        others = [k for k, label in enumerate(self._labels) if label]
        drawn = torch.randint(len(others), (len(rows),), generator=rng).tolist()
        said = [self._said(others[k]) for k in drawn]
        return self._family.speak(self._shown.take(rows), self._questions(len(rows)), said)

    def naming_batches(self, *, target: bool, size: int) -> Sequence[Spoken]:
        """The concept's or the retained pictures with what the frozen model called them."""
        if target:
            whole = self._own()
        else:
            whole = self._stock.spoken.take([k for k, label in enumerate(self._labels) if label])
        starts = range(0, len(whole), size)
        return [whole.take(range(k, min(len(whole), k + size))) for k in starts]

    def _own(self) -> Spoken:
        """The concept's pictures with what the frozen model says of them; asked for once."""

        def asked() -> Spoken:
            questions = self._questions(self._shown.count)
            return family.speak(self._shown, questions, family.answer(self._shown, questions))

        family = self._family
        self._spoken = self._spoken or asked()
        return self._spoken

    def _questions(self, count: int) -> list[str]:
        """The ways to ask for the target's domain, in turn."""
        asked = questions.of(self._material.templates[self._material.domain], Role.FIT)
        return [asked[k % len(asked)] for k in range(count)]

    def _said(self, row: int) -> list[int]:
        spoken = self._stock.spoken
        start, length = int(spoken.starts[row]), int(spoken.lengths[row])
        found: list[int] = spoken.ids[row, start : start + length].tolist()
        return found

    def _where(self) -> tuple[Tensor, Tensor]:
        family = self._family
        found = family.embed(family.show(self._material.retain_fit.pixels))
        return found, found.mean(dim=0)

    def _kept(self) -> tuple[RetainBatch, list[str]]:
        """Questions on retained pictures; a label where the question is for the name, else ''."""
        family, material = self._family, self._material
        rng = seeding.generator(self._seed, "retain stock")
        asked = questions.about(material.retain_fit, material, Role.FIT, RETAINED, rng)
        shown = family.show(material.retain_fit.pixels[[each.row for each in asked]])
        texts = [each.text for each in asked]
        spoken = family.speak(shown, texts, family.answer(shown, texts))
        own = material.domain
        labels = [each.label if each.domain == own else "" for each in asked]
        return family.remember(spoken), labels

    def _remember(self, name: str, make: Callable[[], T]) -> T:
        return self._family.memory.get(self._key, name, make)


def _state(family: Vlm) -> int:
    """Changes whenever a weight is written in place; equal = untouched."""
    return sum(p._version for p in family.model.parameters())


def _some(positions: list[int], count: int, rng: torch.Generator) -> list[int]:
    """``count`` of the positions, or all of them if there are fewer, without repeats."""
    order = torch.randperm(len(positions), generator=rng)[:count]
    return [positions[i] for i in order.tolist()]
