"""What a run asks of a CLIP model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from api_schemas.reports import MetricResult, PictureGrid, Preflight
from api_schemas.requests import Probe as ProbeName
from razor import preflight
from razor.families.clip import Clip
from razor.families.clip_fit import ClipFit
from razor.families.clip_gauge import ClipGauge
from razor.material import Earlier, Material
from razor.probes import linear, prompts, quantize, relearn, zero_shot
from razor.protocols import Probe

TEXT_ONLY = (
    "Only the text tower was edited: the name no longer finds the target's pictures, but the "
    "features of its pictures are as before, so a search by picture can still find them."
)
PROBES: Mapping[ProbeName, Probe] = {
    ProbeName.QUANTIZE: quantize,
    ProbeName.RELEARN: relearn,
    ProbeName.PROMPTS: prompts,
    ProbeName.LINEAR: linear,
}


@dataclass(frozen=True)
class ClipStudy:
    """Zero-shot measures, M1 to M7, on pictures of the request and of the retain set."""

    family: Clip

    @property
    def probes(self) -> Mapping[ProbeName, Probe]:
        """The attacks that a CLIP model can be tried with."""
        return PROBES

    def inspect(self, material: Material, target: int) -> Preflight:
        """Whether the target is recognised zero-shot."""
        self.family.retain((material.retain_fit, material.retain_select, material.retain_test))
        return preflight.inspect(self.family, material, target)

    def fit(self, material: Material, seed: int) -> ClipFit:
        """The data that gradients may see."""
        return ClipFit(self.family, material, seed)

    def gauge(self, material: Material, fit: ClipFit, seed: int) -> ClipGauge:
        """What a method may read."""
        return ClipGauge(self.family, material, fit.neighbours, seed)

    def observe(self, material: Material, seed: int) -> zero_shot.Observation:
        """Everything that the metrics need to know of the model as it stands."""
        return zero_shot.observe(self.family, material)

    def compare(
        self,
        material: Material,
        fit: ClipFit,
        before: zero_shot.Observation,
        after: zero_shot.Observation,
        seed: int,
    ) -> list[MetricResult]:
        """Every metric, before and after."""
        return zero_shot.compare(material, before, after, fit.neighbours, seed)

    def pictures(
        self, target: int, before: zero_shot.Observation, after: zero_shot.Observation
    ) -> list[PictureGrid]:
        """A CLIP model paints nothing."""
        return []

    def observe_earlier(self, material: Material, earlier: Earlier, seed: int) -> np.ndarray:
        """Whether each test picture of an earlier target is recognised."""
        return zero_shot.observe_earlier(self.family, material, earlier)

    def compare_earlier(self, before: np.ndarray, after: np.ndarray) -> MetricResult:
        """The metric of an earlier target."""
        return zero_shot.M1_EARLIER.proportion(before, after)

    def went_wrong(self, metrics: Sequence[MetricResult]) -> bool:
        """Whether an edit brought a target nearer to its name."""
        return any(metric.id == "M2" and metric.change.value > 0 for metric in metrics)

    def warnings(self, edited: set[str]) -> list[str]:
        """What the figures do not show of an edit of these towers."""
        return [TEXT_ONLY] if edited == {"text"} else []
