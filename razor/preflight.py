"""Before the edit: whether the concept is known at all, and whether the samples belong together.

Looks at fit and select pictures only, so that the figures on test pictures stay untouched.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from api_schemas.reports import Preflight
from razor import statistics, zero_shot
from razor.material import Material
from razor.protocols import Embeds

UNLIKE = (
    "The samples do not look alike to this model: their similarity is nearer to that of pictures "
    "of different retained names than to that of one name. Check that they all show the target."
)


def inspect(family: Embeds, material: Material, target: int = 0) -> Preflight:
    """Known = recognised zero-shot more often than chance."""
    roles = material.target
    shown = torch.cat([family.embed_images(part) for part in (roles.fit, roles.select)])
    classes = zero_shot.class_embeddings(
        family, material.classes, material.templates[material.domain]
    )
    hits = (zero_shot.predict(shown, classes) < len(material.names)).numpy()
    retained = family.embed_images(material.retain_select.pixels)
    return judged(material, target, hits, shown, retained)


def judged(
    material: Material,
    target: int,
    hits: np.ndarray,  # (n,) bool: the target was recognised
    shown: Tensor,  # (m, d): features of the samples, unit length
    retained: Tensor,  # (k, d): features of the retained select pictures
) -> Preflight:
    """Known = more often than chance, with 95 % confidence (Wilson's lower end)."""
    accuracy = statistics.percentage(hits)
    chance = 100 / (1 + len(material.classes) - len(material.names))
    kin, strangers = _between_labels(retained, material.retain_select.labels[material.domain])
    return Preflight(
        target=target,
        known=accuracy.interval[0] > chance,
        accuracy=accuracy,
        chance=chance,
        sample_similarity=_between_pictures(shown),
        kin_similarity=kin,
        stranger_similarity=strangers,
    )


def warnings(preflight: Preflight) -> list[str]:
    """What a reader of the report must know about the samples."""
    found = []
    assert preflight.kin_similarity is not None, "only the first release left it out"
    halfway = (preflight.kin_similarity + preflight.stranger_similarity) / 2
    if preflight.sample_similarity < halfway:
        found.append(UNLIKE)
    return found


def _between_pictures(features: Tensor) -> float:
    """Mean cosine of distinct pairs; 1 for a single picture."""
    n = features.shape[0]
    if n < 2:
        return 1.0
    similarity = features @ features.T
    return float((similarity.sum() - similarity.diagonal().sum()) / (n * (n - 1)))


def _between_labels(features: Tensor, labels: tuple[str, ...]) -> tuple[float, float]:
    """Mean cosine of distinct pairs with one label, and of pairs with different labels."""
    ids = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    own = torch.tensor([ids[label] for label in labels], device=features.device)
    same = own[:, None] == own[None, :]
    distinct = ~torch.eye(len(labels), dtype=torch.bool, device=features.device)
    similarity = features @ features.T

    def mean(pairs: Tensor, nothing: float) -> float:
        return float(similarity[pairs].mean()) if bool(pairs.any()) else nothing

    strangers = mean(~same, 0.0)
    return mean(same & distinct, strangers), strangers
