"""UA, IRA and CRA: what a generator still paints of the target, and what of everything else.

Definitions after UnlearnCanvas (arXiv 2402.11846): an independent judge names pictures that were
painted to prompts and seeds that nothing was tuned on, the same ones before and after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from api_schemas.reports import Better, MetricResult
from razor import asking, statistics
from razor.asking import Wanted
from razor.material import Earlier, Material
from razor.probes.cards import Card
from razor.protocols import Paints

#: Retained pictures for one of the target.
RETAINED_FOR_ONE = 2.5
EARLIER_PICTURES = 24
#: Of every picture the report may show.
SHOWN = 8
#: What pictures are painted for: each purpose has prompts and seeds of its own.
TEST, TEST_RETAINED = "test", "test retained"


@dataclass(frozen=True)
class Observation:
    """What the judge sees in one state of the model, and the pictures themselves."""

    target: Tensor  # (n, 3, size, size) uint8
    retained: Tensor  # (m, 3, size, size) uint8
    wanted_target: tuple[Wanted, ...]
    wanted_retained: tuple[Wanted, ...]
    named_target: dict[str, list[str]]  # domain -> n labels that the judge gives
    named_retained: dict[str, list[str]]  # domain -> m labels
    features_retained: np.ndarray  # (m, d)


def observe(family: Paints, material: Material, count: int, seed: int) -> Observation:
    """Paints ``count`` pictures of the target and others, and has them judged.

    Equal seeds ask for equal pictures.
    """
    target, retained = _asked(material, count, round(RETAINED_FOR_ONE * count), seed)
    pictures = [
        family.paint([w.prompt for w in wanted], asking.seeds(len(wanted), seed, purpose))
        for wanted, purpose in ((target, TEST), (retained, TEST_RETAINED))
    ]
    domains = [material.domain, *_other_domains(family, material)]
    named = [
        {d: family.judge.names(part, d, labels(material, d)) for d in domains} for part in pictures
    ]
    return Observation(
        target=pictures[0],
        retained=pictures[1],
        wanted_target=tuple(target),
        wanted_retained=tuple(retained),
        named_target=named[0],
        named_retained=named[1],
        features_retained=family.judge.features(pictures[1]).cpu().numpy(),
    )


def gone_and_right(
    family: Paints, material: Material, count: int, others: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:  # (count,) bool, (others,) bool
    """Where the target is not seen, and where the right other is, in the first test pictures."""
    target, retained = _asked(material, count, others, seed)
    own = material.domain
    named = seen(family, target, (own,), material, TEST, seed)[own]
    others_named = seen(family, retained, (own,), material, TEST_RETAINED, seed)[own]
    right = [name == w.labels[own] for name, w in zip(others_named, retained, strict=True)]
    return ~is_target(named, material), np.array(right)


def seen(
    family: Paints,
    wanted: Sequence[Wanted],
    domains: Sequence[str],
    material: Material,
    purpose: str,
    seed: int,
) -> dict[str, list[str]]:
    """What the judge says of pictures painted for these prompts."""
    painted = family.paint([w.prompt for w in wanted], asking.seeds(len(wanted), seed, purpose))
    return {d: family.judge.names(painted, d, labels(material, d)) for d in domains}


def labels(material: Material, domain: str) -> list[str]:
    """What a judge without labels of its own may choose from."""
    if domain == material.domain:
        return list(material.classes)
    parts = (material.retain_fit, material.retain_select, material.retain_test)
    return sorted({label for part in parts for label in part.labels[domain] if label})


def is_target(named: Sequence[str], material: Material) -> np.ndarray:  # (n,) bool
    """Whether each label is one of the target's names, whatever its case."""
    own = {name.casefold() for name in material.names}
    return np.array([label.casefold() in own for label in named])


def observe_earlier(
    family: Paints, material: Material, earlier: Earlier, seed: int
) -> np.ndarray:  # (n,) bool
    """Whether the judge sees an earlier target where its name is asked for."""
    templates = material.templates[earlier.domain]
    wanted = [
        Wanted(templates[i % len(templates)].format(earlier.names[0]), {})
        for i in range(EARLIER_PICTURES)
    ]
    painted = family.paint([w.prompt for w in wanted], asking.seeds(len(wanted), seed, "earlier"))
    among = [*earlier.names, *labels(material, earlier.domain)]
    named = family.judge.names(painted, earlier.domain, among)
    own = {name.casefold() for name in earlier.names}
    return np.array([label.casefold() in own for label in named])


def compare(
    material: Material,
    before: Observation,
    after: Observation,
    neighbours: Sequence[str],
    seed: int,
) -> list[MetricResult]:
    """Every metric, before and after, with intervals."""
    own = material.domain
    gone = [~is_target(state.named_target[own], material) for state in (before, after)]
    right = [_right(state, own) for state in (before, after)]
    near = np.isin(np.array([w.labels[own] for w in before.wanted_retained]), list(neighbours))
    results = [
        UA.proportion(*gone),
        IRA.proportion(*right),
        STABLE.proportion(
            np.ones(len(right[0]), dtype=bool),
            np.array(before.named_retained[own]) == np.array(after.named_retained[own]),
        ),
    ]
    if near.any():
        results.insert(2, IRA_NEAR.proportion(right[0][near], right[1][near]))
    others = [d for d in before.named_retained if d != own]
    if others:
        results.append(
            CRA.proportion(
                np.concatenate([_right(before, d) for d in others]),
                np.concatenate([_right(after, d) for d in others]),
            )
        )
        results.append(
            CRA_TARGET.proportion(
                np.concatenate([_kept(before, d) for d in others]),
                np.concatenate([_kept(after, d) for d in others]),
            )
        )
    # At random: prompts come in turn, and halves of one prompt each would look too much alike.
    mixed = np.random.default_rng(seed).permutation(len(before.features_retained))
    half = len(mixed) // 2
    base = before.features_retained[mixed[:half]]
    results.append(
        KID.statistic(
            statistics.kernel_distance,
            (base, before.features_retained[mixed[half:]]),
            (base, after.features_retained[mixed[half:]]),
            seed,
            halves=True,
        )
    )
    return results


def _asked(
    material: Material, count: int, others: int, seed: int
) -> tuple[list[Wanted], list[Wanted]]:
    """Test prompts for the target and for what is retained; fewer are the first of more."""
    used = (material.retain_fit, material.retain_select)
    target = asking.of_concept(material, material.retain_test, used)
    retained = asking.of_retained(material.retain_test, used)
    return (
        asking.drawn(target, count, seed, TEST),
        asking.drawn(retained, others, seed, TEST_RETAINED),
    )


def _other_domains(family: Paints, material: Material) -> list[str]:
    return [
        domain
        for domain, column in material.retain_test.labels.items()
        if domain != material.domain and any(column) and family.judge.knows(domain)
    ]


def _right(state: Observation, domain: str) -> np.ndarray:
    pairs = zip(state.named_retained[domain], state.wanted_retained, strict=True)
    return np.array([label == wanted.labels[domain] for label, wanted in pairs])


def _kept(state: Observation, domain: str) -> np.ndarray:
    pairs = zip(state.named_target[domain], state.wanted_target, strict=True)
    return np.array([label == wanted.labels.get(domain, label) for label, wanted in pairs])


UA = Card(
    "UA",
    "unlearning accuracy",
    "Share of the pictures painted with the target's name that the judge does not call the target.",
    Better.HIGHER,
)
UA_EARLIER = Card(
    "UA_earlier",
    "unlearning accuracy of an earlier target",
    "Share of the pictures painted with an earlier target's name that the judge does not call "
    "that target.",
    Better.HIGHER,
)
IRA = Card(
    "IRA",
    "in-domain retain accuracy",
    "Share of the pictures painted with another label of the target's domain in which the judge "
    "sees that label.",
    Better.HIGHER,
)
IRA_NEAR = Card(
    "IRA_near",
    "neighbour retain accuracy",
    "IRA on the five retained labels that the model finds most similar to the target.",
    Better.HIGHER,
)
STABLE = Card(
    "S",
    "stability",
    "Share of the retained pictures that the judge names as it named the picture painted before.",
    Better.HIGHER,
)
CRA = Card(
    "CRA",
    "cross-domain retain accuracy",
    "Share of right labels in the other domains, over pictures painted without the target's name.",
    Better.HIGHER,
)
CRA_TARGET = Card(
    "CRA_target",
    "cross-domain accuracy where the target was asked for",
    "Share of right labels in the other domains, over pictures painted with the target's name.",
    Better.HIGHER,
)
KID = Card(
    "KID",
    "kernel distance of retained pictures",
    "1000 x squared maximum mean discrepancy (arXiv 1801.01401), in features of the judge, between "
    "half of the retained pictures painted before and the other half as painted now. Around 0 for "
    "the model before the edit.",
    Better.LOWER,
    unit="1000 x MMD^2",
)
