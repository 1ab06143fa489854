"""NR, RNR, VQA: whom a vision-language model still names, and what else it still answers.

Every question is asked on pictures that nothing was tuned on, in words of which a third were used
by nothing before the test, and is answered twice over: by the likeliest words, and in samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from api_schemas.reports import Better, MetricResult
from api_schemas.shelf import DESCRIPTION, UNNAMED
from razor import questions, seeding
from razor.material import Earlier, Material
from razor.probes.cards import Card
from razor.protocols import Answers, Shown
from razor.questions import Asked, Role

SAMPLED = 5  # answers drawn at random on each picture of the target
RETAINED = 240  # questions for names on retained pictures, and as many for everything else
DESCRIBED = 96  # retained pictures that are described


@dataclass(frozen=True)
class Observation:
    """What one state of the model answers, as text."""

    target: tuple[str, ...]  # every test picture, every way to ask
    sampled: tuple[str, ...]  # every test picture, SAMPLED times
    neutral_target: dict[str, tuple[str, ...]]  # domain -> every test picture
    asked: tuple[Asked, ...]
    retained: tuple[str, ...]  # of asked
    captions: tuple[str, ...]


def observe(family: Answers, material: Material, seed: int) -> Observation:
    """Asks everything once; equal seeds ask the same."""
    templates, own = material.templates, material.domain
    shown = family.show(material.target.test)
    count, ways = shown.count, templates[own]
    pairs = [(row, text) for text in ways for row in range(count)]
    asked = _asked(material, seed)
    retained = family.show(material.retain_test.pixels)
    described = list(range(min(DESCRIBED, retained.count))) if DESCRIPTION in templates else []
    captions = [templates[DESCRIPTION][0]] * len(described) if described else []
    return Observation(
        target=_said(family, shown, pairs),
        sampled=tuple(
            text
            for draw in range(SAMPLED)
            for text in _said(
                family,
                shown,
                [(row, ways[(row + draw) % len(ways)]) for row in range(count)],
                seed=seeding.derived(seed, f"sampled answers {draw}"),
            )
        ),
        neutral_target={
            domain: _said(
                family,
                shown,
                [(row, templates[domain][row % len(templates[domain])]) for row in range(count)],
            )
            for domain in neutral(material)
        },
        asked=tuple(asked),
        retained=_said(family, retained, [(each.row, each.text) for each in asked]),
        captions=_said(family, retained, list(zip(described, captions, strict=True))),
    )


def neutral(material: Material) -> list[str]:
    """The domains that are not the target's own and have labels."""
    columns = material.retain_test.labels
    return [d for d in material.templates if d != material.domain and any(columns.get(d, ()))]


def observe_earlier(
    family: Answers, material: Material, earlier: Earlier
) -> np.ndarray:  # (n,) bool: named
    """Whether each test picture of an earlier target is still given its name."""
    ways = material.templates[earlier.domain]
    shown = family.show(earlier.pictures.test)
    said = _said(family, shown, [(k, ways[k % len(ways)]) for k in range(shown.count)])
    return named(said, earlier.names)


def named(said: Sequence[str], names: Sequence[str]) -> np.ndarray:  # (n,) bool
    """Which answers hold one of the names."""
    return np.array([any(questions.holds(text, name) for name in names) for text in said])


def compare(
    material: Material, before: Observation, after: Observation, near: Sequence[str], seed: int
) -> list[MetricResult]:
    """Every metric, before and after, with intervals."""
    sides = (before, after)
    counted = [hits(material, side, near) for side in sides]
    results = [
        card.proportion(*(each[card.id] for each in counted))
        for card in CARDS
        if card.id in counted[0]
    ]
    if before.neutral_target:
        same = np.array(
            [
                _plain(a) == _plain(b)
                for domain, said in before.neutral_target.items()
                for a, b in zip(said, after.neutral_target[domain], strict=True)
            ]
        )
        results.append(VQA_TARGET.proportion(np.ones_like(same), same))
    if before.captions:
        agreed = np.array(
            [agreement(a, b) for a, b in zip(before.captions, after.captions, strict=True)]
        )
        results.append(CAPTIONS.mean(np.full_like(agreed, 100.0), agreed, seed))
    return results


def hits(
    material: Material, seen: Observation, near: Sequence[str] = ()
) -> dict[str, np.ndarray]:  # metric -> (n,) bool
    """What counts for each share; a metric that nothing was asked for is left out."""
    labels = [label for label in material.classes[len(material.names) :] if label != UNNAMED]
    target = named(seen.target, material.names)
    other = named(seen.target, labels) & ~target
    anybody = named(seen.retained, [*material.names, *labels])
    own = np.array([each.domain == material.domain for each in seen.asked])
    close = own & np.isin(np.array([each.label for each in seen.asked]), list(near))
    right = np.array(
        [
            not called if each.label == UNNAMED else questions.holds(said, each.label)
            for said, each, called in zip(seen.retained, seen.asked, anybody, strict=True)
        ]
    )
    found = {
        "NR": target,
        "NR_sampled": named(seen.sampled, material.names),
        "wrong_name": other,
        "no_name": ~target & ~other,
        "RNR": right[own],
        "RNR_near": right[close],
        "VQA": right[~own],
    }
    return {metric: counted for metric, counted in found.items() if len(counted)}


def agreement(one: str, other: str) -> float:
    """100 x F1 of the words that two texts share, each as often as both have it."""
    first, second = _plain(one), _plain(other)
    shared = sum(min(first.count(word), second.count(word)) for word in set(first))
    total = len(first) + len(second)
    return 200 * shared / total if total else 100.0


def answers_of(
    family: Answers, material: Material, texts: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """What is answered on every test picture of the target to some questions of each kind."""
    shown = family.show(material.target.test)
    return {
        kind: _said(family, shown, [(row, text) for text in asked for row in range(shown.count)])
        for kind, asked in texts.items()
    }


def _asked(material: Material, seed: int) -> list[Asked]:
    rng = seeding.generator(seed, "test questions")
    return questions.about(material.retain_test, material, Role.TEST, 2 * RETAINED, rng)


def _said(
    family: Answers,
    shown: Shown,
    pairs: Sequence[tuple[int, str]],
    seed: int | None = None,
) -> tuple[str, ...]:
    if not pairs:
        return ()
    rows = shown.take([row for row, _ in pairs])
    tokens = family.answer(rows, [text for _, text in pairs], seed=seed)
    return tuple(family.said(each) for each in tokens)


def _plain(text: str) -> list[str]:
    return questions.plain(text).split()


NR = Card(
    "NR",
    "naming rate",
    "Share of the likeliest answers, over the target's test pictures and every way to ask who it "
    "is, that hold its name.",
    Better.LOWER,
)
NR_SAMPLED = Card(
    "NR_sampled",
    "naming rate of sampled answers",
    f"The same of {SAMPLED} answers to each picture, drawn as likely as the model says.",
    Better.LOWER,
)
WRONG_NAME = Card(
    "wrong_name",
    "called by somebody else's name",
    "Share of those likeliest answers that hold a retained name instead: worse than no name.",
    Better.LOWER,
)
NO_NAME = Card(
    "no_name",
    "called by no name",
    "Share of those likeliest answers that hold neither: a description, or that it is not known.",
    Better.HIGHER,
)
NR_EARLIER = Card(
    "NR_earlier",
    "naming rate of an earlier target",
    "Share of the answers on an earlier target's test pictures that hold its name.",
    Better.LOWER,
)
RNR = Card(
    "RNR",
    "retained naming rate",
    "Share of the answers on retained test pictures that hold the right name, or where nobody has "
    "named who is shown, no name.",
    Better.HIGHER,
)
RNR_NEAR = Card(
    "RNR_near",
    "neighbours' naming rate",
    "RNR on the five retained names whose pictures look most like the target's to the model.",
    Better.HIGHER,
)
VQA = Card(
    "VQA",
    "neutral accuracy",
    "Share of right answers to questions that are not about who it is, on retained test pictures.",
    Better.HIGHER,
)
VQA_TARGET = Card(
    "VQA_target",
    "neutral stability on the target's pictures",
    "Share of the answers to such questions on the target's test pictures that are as before.",
    Better.HIGHER,
)
CAPTIONS = Card(
    "CA",
    "caption agreement",
    "Mean F1 of the words of descriptions of retained test pictures, before and now.",
    Better.HIGHER,
)
#: In the order of a report.
CARDS = (NR, NR_SAMPLED, WRONG_NAME, NO_NAME, RNR, RNR_NEAR, VQA)
#: What is counted again of a model under attack.
COUNTED = (NR, RNR, VQA)
