"""What a method may read of one run on a picture generator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from razor import asking, pictures, seeding
from razor.families.diffusion import Diffusion
from razor.families.diffusion_fit import cycled, noised
from razor.material import Earlier, Material
from razor.probes import painting
from razor.protocols import Reading

DRAWS = 6  # noisy versions of each picture at hand
AUGMENTED = 8  # about; of the pictures at hand
PAINTED = 16  # of the concept by the frozen model, other prompts and seeds than for fitting
STAND_IN_DRAWS = 3
RETAINED = 72  # retained select pictures looked at
EARLIER_DRAWS = 4
INSTEAD = 4  # retained labels whose answers, averaged, stand for "anything else"
#: While the name still says more than this share of what it said, nothing is painted.
LEFT = 0.4
JUDGED = 24  # pictures that are painted then, to be judged, a few at a time
AT_ONCE = 8


@dataclass(frozen=True)
class _Shown:
    """Noisy versions of some pictures with prompts that name one concept.

    ``effect`` is what the name changed in the frozen model's answers, next to those to some
    retained labels in its place.
    """

    latents: Tensor  # (draws * n, c, h, w), noisy
    steps: Tensor  # (draws * n,)
    prompts: tuple[str, ...]  # draws * n
    instead: Tensor  # (draws * n, c, h, w): answers with other labels, averaged
    effect: Tensor  # (draws * n, c, h, w)
    draws: int

    def shares(self, family: Diffusion) -> Tensor:  # (n,)
        """How much of the effect each picture's answers still have: 1 at first, 0 = none."""
        moved = family.answers(self.latents, self.steps, self.prompts) - self.instead
        along, whole = (
            (other * self.effect).flatten(1).sum(dim=1).view(self.draws, -1).sum(dim=0)
            for other in (moved, self.effect)
        )
        return along / whole.clamp_min(1e-12)


class DiffusionGauge:
    """Reads forgetting on fit and select pictures, harm on retained select pictures.

    A margin is the share of what the concept's name changed in the frozen model's answers that it
    still changes, less ``LEFT``. Stand-ins are the pictures at hand, augmented, and pictures that
    the frozen model painted of the concept. Once those margins are gone, pictures are painted to
    select prompts and seeds, and none may show the concept to the judge: how small a share does
    depends on the concept, and the pictures of the test ask for other prompts and seeds. Harm is
    how far answers to retained prompts drifted, as a share of what the prompts change in them; or
    how much more of an earlier target's effect is back.
    """

    def __init__(self, family: Diffusion, material: Material, seed: int) -> None:
        self._family, self._material, self._seed = family, material, seed
        rng, name = seeding.generator(seed, "gauge"), material.names[0]
        own = torch.cat([material.target.fit, material.target.select])
        plain = asking.plain_patterns(material)
        self._own = self._shown(
            family.encode(own), [plain[i % len(plain)] for i in range(len(own))], DRAWS, rng, name
        )
        varied = pictures.augment(own, max(1, AUGMENTED // len(own)), rng)
        asked = cycled(asking.patterns(material, material.retain_select), PAINTED, rng)
        painted = family.paint(
            [p.filled(name) for p in asked], asking.seeds(PAINTED, seed, "gauge"), latents=True
        )
        used = [plain[i % len(plain)] for i in range(len(varied))] + asked
        self._stand_ins = self._shown(
            torch.cat([family.encode(varied), painted]), used, STAND_IN_DRAWS, rng, name
        )
        wanted = asking.of_concept(material, material.retain_select)
        self._wanted = asking.drawn(wanted, JUDGED, seed, "gauge judged")
        self._keep(rng)
        self._earlier = [self._before(each, rng) for each in material.earlier]
        self._base_earlier = self._back()

    def read(self, *, whole: bool = False, harm: bool = True) -> Reading:
        """Measure the model as it stands now; pictures are painted once little is left.

        ``whole``: they are painted anyway, and no stand-in says other than the judge.
        """
        own = self._own.shares(self._family) - LEFT
        others = self._stand_ins.shares(self._family) - LEFT
        # One picture's share is a noisy figure, and a generator paints from the name.
        worst = max(float(own.mean()), float(others.median()))
        if worst > 0 and not whole:
            # Whatever is worth painting comes before all that is not: what is seen is at most 1.
            worst, accuracy = 1 + worst, 1.0
        else:
            accuracy = self._seen()
            worst = accuracy or min(worst, 0.0)
        return Reading(
            worst=worst,
            stand_ins=torch.zeros(0) if whole else others.sort().values.cpu(),
            accuracy=accuracy,
            harm=self.harm() if harm else math.nan,
        )

    def harm(self) -> float:
        """The harm of the model as it stands now.

        Harm h = d / (1 + d) of a drift d: about d while it is small, and never worse than 1, or
        standing still would be better than any edit that forgets.
        """
        back = self._back()
        returned = max((n - b for n, b in zip(back, self._base_earlier, strict=True)), default=0.0)
        drift = max(self._drift(), 0.0)
        return max(drift / (1 + drift), returned, 0.0)

    def _seen(self) -> float:
        """The share of newly painted pictures that show the concept; as soon as some do, of those.

        The pictures of one run are painted from the same noise every time.
        """
        family, material = self._family, self._material
        for start in range(0, JUDGED, AT_ONCE):
            wanted = self._wanted[start : start + AT_ONCE]
            purpose = f"gauge judged {start}"
            found = painting.seen(family, wanted, (material.domain,), material, purpose, self._seed)
            share = float(painting.is_target(found[material.domain], material).mean())
            if share:
                return share
        return 0.0

    def _shown(
        self,
        latents: Tensor,
        used: Sequence[asking.Pattern],
        draws: int,
        rng: torch.Generator,
        name: str,
        domain: str = "",
    ) -> _Shown:
        family, material = self._family, self._material
        noisy = noised(family, latents.repeat(draws, 1, 1, 1), rng)
        every = list(used) * draws
        labels = sorted({x for x in material.retain_select.labels[domain or material.domain] if x})

        def said(names: Sequence[str]) -> Tensor:
            prompts = [p.filled(each) for p, each in zip(every, names, strict=True)]
            return family.answers(noisy.latents, noisy.steps, prompts)

        instead = torch.zeros_like(noisy.latents)
        for _ in range(INSTEAD):
            instead += said(cycled(labels, len(every), rng)) / INSTEAD
        effect = said((name,) * len(every)) - instead
        prompts = tuple(p.filled(name) for p in every)
        return _Shown(noisy.latents, noisy.steps, prompts, instead, effect, draws)

    def _keep(self, rng: torch.Generator) -> None:
        family, rows = self._family, self._material.retain_select
        chosen = torch.randperm(len(rows), generator=rng)[:RETAINED].tolist()
        self._noisy = noised(family, family.encode(rows.pixels[chosen]), rng)
        self._prompts = tuple(rows.captions[i] for i in chosen)
        self._frozen = self._answers(self._prompts)
        empty = self._answers(("",) * len(self._prompts))
        self._span = (self._frozen - empty).square().flatten(1).mean(dim=1).mean()

    def _answers(self, prompts: Sequence[str]) -> Tensor:
        return self._family.answers(self._noisy.latents, self._noisy.steps, prompts)

    def _drift(self) -> float:
        moved = self._answers(self._prompts) - self._frozen
        return float(moved.square().mean() / self._span)

    def _before(self, earlier: Earlier, rng: torch.Generator) -> _Shown:
        """An earlier target's pictures with its own name."""
        templates = self._material.templates[earlier.domain]
        before, after = templates[0].split("{}")
        latents = self._family.encode(earlier.pictures.select)
        used = [asking.Pattern(before, after, {})] * len(latents)
        return self._shown(latents, used, EARLIER_DRAWS, rng, earlier.names[0], earlier.domain)

    def _back(self) -> list[float]:
        """What is there of the effect that each earlier target's name had when this run began."""
        return [float(shown.shares(self._family).mean()) for shown in self._earlier]
