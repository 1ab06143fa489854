"""What a run asks of a vision-language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from api_schemas.reports import MetricResult, PictureGrid, Preflight
from api_schemas.requests import Probe as ProbeName
from razor import preflight, questions
from razor.families.vlm import Vlm
from razor.families.vlm_fit import VlmFit
from razor.families.vlm_gauge import VlmGauge
from razor.material import Earlier, Material
from razor.probes import leaking_questions, named_quantize, named_relearn, naming
from razor.protocols import Probe
from razor.questions import Role

PICTURES_ONLY = (
    "Only the way from pictures to words was edited: the target's pictures no longer lead to its "
    "name, but the language model still knows what was taught about the name itself, in words{}."
)
UNCHANGED = ", and the vision tower still tells the target's pictures from others"
PROBES: Mapping[ProbeName, Probe] = {
    ProbeName.QUANTIZE: named_quantize,
    ProbeName.RELEARN: named_relearn,
    ProbeName.PROMPTS: leaking_questions,
}


@dataclass(frozen=True)
class VlmStudy:
    """Naming rates and neutral answers, on pictures of the request and of the retain set."""

    family: Vlm

    @property
    def probes(self) -> Mapping[ProbeName, Probe]:
        """The attacks that such a model can be tried with."""
        return PROBES

    def inspect(self, material: Material, target: int) -> Preflight:
        """Whether the model gives the target's pictures its name."""
        family = self.family
        shown = family.show(torch.cat([material.target.fit, material.target.select]))
        ways = questions.of(material.templates[material.domain], Role.SELECT)
        asked = [ways[k % len(ways)] for k in range(shown.count)]
        said = [family.said(tokens) for tokens in family.answer(shown, asked)]
        retained = family.embed(family.show(material.retain_select.pixels))
        centre = retained.mean(dim=0)
        return preflight.judged(
            material,
            target,
            naming.named(said, material.names),
            F.normalize(family.embed(shown) - centre, dim=-1),
            F.normalize(retained - centre, dim=-1),
        )

    def fit(self, material: Material, seed: int) -> VlmFit:
        """The data that gradients may see."""
        return VlmFit(self.family, material, seed)

    def gauge(self, material: Material, fit: VlmFit, seed: int) -> VlmGauge:
        """What a method may read."""
        return VlmGauge(self.family, material, fit, seed)

    def observe(self, material: Material, seed: int) -> naming.Observation:
        """Everything that the metrics need to know of the model as it stands."""
        return naming.observe(self.family, material, seed)

    def compare(
        self,
        material: Material,
        fit: VlmFit,
        before: naming.Observation,
        after: naming.Observation,
        seed: int,
    ) -> list[MetricResult]:
        """Every metric, before and after."""
        return naming.compare(material, before, after, fit.neighbours, seed)

    def pictures(
        self, target: int, before: naming.Observation, after: naming.Observation
    ) -> list[PictureGrid]:
        """Such a model paints nothing."""
        return []

    def observe_earlier(self, material: Material, earlier: Earlier, seed: int) -> np.ndarray:
        """Whether an earlier target is still given its name."""
        return naming.observe_earlier(self.family, material, earlier)

    def compare_earlier(self, before: np.ndarray, after: np.ndarray) -> MetricResult:
        """The metric of an earlier target."""
        return naming.NR_EARLIER.proportion(before, after)

    def went_wrong(self, metrics: Sequence[MetricResult]) -> bool:
        """Whether an edit made the model name the target more often."""
        return any(m.id == "NR" and m.change.interval[0] > 0 for m in metrics)

    def warnings(self, edited: set[str]) -> list[str]:
        """What the figures do not show of an edit of these towers."""
        if not edited or "language" in edited:
            return []
        return [PICTURES_ONLY.format("" if "image" in edited else UNCHANGED)]
