"""M1, M2, M4, M5, M6 and M7: what a CLIP model still knows, and what it lost.

The definitions are ours: the RAZOR paper names M1 to M5 without formulas. All are measured on test
pictures only, before and after, on the same pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from api_schemas.reports import Better, Measurement, MetricResult
from razor import statistics, zero_shot
from razor.material import Material
from razor.protocols import Embeds


@dataclass(frozen=True)
class Observation:
    """Everything the metrics need to know of one state of the model."""

    target_answers: np.ndarray  # (n,) class index
    target_top5: np.ndarray  # (n,) bool
    target_cosines: np.ndarray  # (n,) of each picture with the target's text, x 100
    retain_answers: np.ndarray  # (m,) class index
    cross_retain: dict[str, np.ndarray]  # domain -> (m,) value index
    cross_target: dict[str, np.ndarray]  # domain -> (n,) value index


def observe(family: Embeds, material: Material) -> Observation:
    """Looks at every test picture once."""
    target = family.embed_images(material.target.test)
    retain = family.embed_images(material.retain_test.pixels)
    classes = zero_shot.class_embeddings(
        family, material.classes, material.templates[material.domain]
    )
    names = len(material.names)
    similarity = target @ classes.T
    ranked = similarity.argsort(dim=1, descending=True, stable=True)[:, :5]
    cross_retain, cross_target = {}, {}
    for domain in cross_domains(material):
        values = zero_shot.class_embeddings(
            family, cross_values(material, domain), material.templates[domain]
        )
        cross_retain[domain] = zero_shot.predict(retain, values).numpy()
        cross_target[domain] = zero_shot.predict(target, values).numpy()
    return Observation(
        target_answers=zero_shot.predict(target, classes).numpy(),
        target_top5=(ranked < names).any(dim=1).cpu().numpy(),
        target_cosines=100 * _cosines(similarity[:, :names]),
        retain_answers=zero_shot.predict(retain, classes).numpy(),
        cross_retain=cross_retain,
        cross_target=cross_target,
    )


def cross_domains(material: Material) -> list[str]:
    """Label domains other than the target's own that the retain set and the templates share."""
    return [
        domain
        for domain, labels in material.retain_test.labels.items()
        if domain != material.domain and domain in material.templates and any(labels)
    ]


def cross_values(material: Material, domain: str) -> list[str]:
    """The labels of a domain on the retain side, sorted."""
    parts = (material.retain_fit, material.retain_select, material.retain_test)
    return sorted({label for part in parts for label in part.labels[domain] if label})


def compare(
    material: Material,
    before: Observation,
    after: Observation,
    neighbours: Sequence[str],
    seed: int,
) -> list[MetricResult]:
    """Every metric, before and after, with intervals."""
    names = len(material.names)
    labels = material.retain_test.labels[material.domain]
    truth = np.array([material.classes.index(label) for label in labels])
    near = np.isin(np.array(labels), list(neighbours))
    results = [
        _proportion("M1", before.target_answers < names, after.target_answers < names),
        _proportion("M1_top5", before.target_top5, after.target_top5),
        _similarity(before.target_cosines, after.target_cosines, seed),
        _proportion("M4", before.retain_answers == truth, after.retain_answers == truth),
        _proportion(
            "M5", np.ones(len(truth), dtype=bool), before.retain_answers == after.retain_answers
        ),
        _proportion(
            "M6", (before.retain_answers == truth)[near], (after.retain_answers == truth)[near]
        ),
    ]
    if cross_domains(material):
        results.append(_proportion("M7_retain", *_cross_retain(material, before, after)))
        results.append(_proportion("M7_target", *_cross_target(before, after)))
    return results


def _cross_retain(
    material: Material, before: Observation, after: Observation
) -> tuple[np.ndarray, np.ndarray]:
    hits: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for domain in cross_domains(material):
        place = {value: i for i, value in enumerate(cross_values(material, domain))}
        labels = material.retain_test.labels[domain]
        known = np.array([bool(label) for label in labels])
        truth = np.array([place.get(label, -1) for label in labels])[known]
        for side, seen in zip(hits, (before, after), strict=True):
            side.append(seen.cross_retain[domain][known] == truth)
    return np.concatenate(hits[0]), np.concatenate(hits[1])


def _cross_target(before: Observation, after: Observation) -> tuple[np.ndarray, np.ndarray]:
    """Samples come without such labels: the model's own answers before the edit stand for them."""
    same = [before.cross_target[d] == after.cross_target[d] for d in before.cross_target]
    agree = np.concatenate(same)
    return np.ones(len(agree), dtype=bool), agree


def _cosines(similarity: Tensor) -> np.ndarray:
    return similarity.max(dim=1).values.cpu().numpy().astype(np.float64)


@dataclass(frozen=True)
class _Card:
    name: str
    definition: str
    better: Better


_CARDS = {
    "M1": _Card(
        "forget accuracy",
        "Share of the target's test pictures whose best zero-shot class, over all names, is still "
        "the target.",
        Better.LOWER,
    ),
    "M1_top5": _Card(
        "forget accuracy, top 5",
        "Share of the target's test pictures with the target among the five best classes.",
        Better.LOWER,
    ),
    "M2": _Card(
        "forget similarity",
        "100 x mean cosine of the target's test pictures and the target's text.",
        Better.LOWER,
    ),
    "M4": _Card(
        "utility",
        "Share of retained test pictures whose best zero-shot class is right.",
        Better.HIGHER,
    ),
    "M5": _Card(
        "stability",
        "Share of retained test pictures whose best class is the one the model gave before.",
        Better.HIGHER,
    ),
    "M6": _Card(
        "neighbour utility",
        "M4 on the five retained names that the model finds most similar to the target.",
        Better.HIGHER,
    ),
    "M7_retain": _Card(
        "cross-domain utility, retained pictures",
        "Share of right zero-shot answers on what is not the target's domain (scene, style, ...).",
        Better.HIGHER,
    ),
    "M7_target": _Card(
        "cross-domain utility, target's pictures",
        "Share of answers on other domains that are as before the edit: the pictures sent with a "
        "request carry no such labels.",
        Better.HIGHER,
    ),
}


def _proportion(metric: str, before: np.ndarray, after: np.ndarray) -> MetricResult:
    card = _CARDS[metric]
    return MetricResult(
        id=metric,
        name=card.name,
        definition=card.definition,
        unit="percent",
        better=card.better,
        before=statistics.percentage(before),
        after=statistics.percentage(after),
        change=statistics.paired_change(before, after),
    )


def _similarity(before: np.ndarray, after: np.ndarray, seed: int) -> MetricResult:
    def mean(values: np.ndarray) -> Measurement:
        return statistics.bootstrap_mean(values, seed)

    card = _CARDS["M2"]
    return MetricResult(
        id="M2",
        name=card.name,
        definition=card.definition,
        unit="100 x cosine",
        better=card.better,
        before=mean(before),
        after=mean(after),
        change=mean(after - before),
    )
