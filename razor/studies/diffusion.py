"""What a run asks of a picture generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from api_schemas.reports import MetricResult, PictureGrid, Preflight
from api_schemas.requests import Probe as ProbeName
from razor import asking, preflight
from razor.families.diffusion import Diffusion
from razor.families.diffusion_fit import DiffusionFit
from razor.families.diffusion_gauge import DiffusionGauge
from razor.grid import grid
from razor.material import Earlier, Material
from razor.probes import learnt_word, painted_prompts, painted_quantize, painting
from razor.protocols import Probe

TEXT_ONLY = (
    "Only text encoders were edited: the name no longer leads to the target, but the denoiser is "
    "as before, so words or an embedding found by an attacker may still lead to it."
)
PROBES: Mapping[ProbeName, Probe] = {
    ProbeName.QUANTIZE: painted_quantize,
    ProbeName.PROMPTS: painted_prompts,
    ProbeName.LEARNT_WORD: learnt_word,
}
#: Pictures that are painted to see whether the generator knows the target at all.
PREFLIGHT_PICTURES = 24


@dataclass(frozen=True)
class DiffusionStudy:
    """UA, IRA and CRA: what an independent judge sees in pictures painted before and after."""

    family: Diffusion
    count: int  # pictures of the target that are painted for measuring

    @property
    def probes(self) -> Mapping[ProbeName, Probe]:
        """The attacks that a generator can be tried with."""
        return PROBES

    def inspect(self, material: Material, target: int) -> Preflight:
        """Whether the judge sees the target in what the generator paints when asked for it."""
        family, judge = self.family, self.family.judge
        wanted = asking.drawn(
            asking.of_concept(material, material.retain_select),
            PREFLIGHT_PICTURES,
            0,
            "preflight",
        )
        found = painting.seen(family, wanted, (material.domain,), material, "preflight", 0)
        hits = painting.is_target(found[material.domain], material)
        sent = judge.features(torch.cat([material.target.fit, material.target.select]))
        retained = judge.features(material.retain_select.pixels)
        return preflight.judged(material, target, hits, sent, retained)

    def fit(self, material: Material, seed: int) -> DiffusionFit:
        """The data that gradients may see."""
        return DiffusionFit(self.family, material, seed)

    def gauge(self, material: Material, fit: DiffusionFit, seed: int) -> DiffusionGauge:
        """What a method may read."""
        return DiffusionGauge(self.family, material, seed)

    def observe(self, material: Material, seed: int) -> painting.Observation:
        """What the judge sees in the test pictures of the model as it stands."""
        return painting.observe(self.family, material, self.count, seed)

    def compare(
        self,
        material: Material,
        fit: DiffusionFit,
        before: painting.Observation,
        after: painting.Observation,
        seed: int,
    ) -> list[MetricResult]:
        """Every metric, before and after."""
        return painting.compare(material, before, after, fit.neighbours, seed)

    def pictures(
        self, target: int, before: painting.Observation, after: painting.Observation
    ) -> list[PictureGrid]:
        """The first pictures of the test, by both states."""
        sides = [
            (s.target[: painting.SHOWN], s.retained[: painting.SHOWN]) for s in (before, after)
        ]
        return [grid(target, *sides)]

    def observe_earlier(self, material: Material, earlier: Earlier, seed: int) -> np.ndarray:
        """Whether the judge sees an earlier target in pictures that its name asks for."""
        return painting.observe_earlier(self.family, material, earlier, seed)

    def compare_earlier(self, before: np.ndarray, after: np.ndarray) -> MetricResult:
        """The metric of an earlier target."""
        return painting.UA_EARLIER.proportion(~before, ~after)

    def went_wrong(self, metrics: Sequence[MetricResult]) -> bool:
        """Whether an edit made the target plainer to see."""
        return any(m.id == "UA" and m.change.interval[1] < 0 for m in metrics)

    def warnings(self, edited: set[str]) -> list[str]:
        """What the figures do not show of an edit of these parts."""
        return [TEXT_ONLY] if edited == {"text"} else []
