"""Whether a generator paints the target when it is asked for in other words than the name's own."""

from __future__ import annotations

import numpy as np

from api_schemas.reports import Better, MetricResult
from razor import asking
from razor.asking import Pattern, Wanted
from razor.material import Material
from razor.probes import painting, prompts
from razor.probes.cards import Card
from razor.protocols import Fit, Paints

PICTURES = 24  # of each kind of wording
#: Sentences that no record uses for its captions; ours.
PARAPHRASES = ("{}", "{} is in this picture", "an image that shows {}", "{}, as I know {}")


def observe(
    family: Paints, fit: Fit, material: Material, seed: int
) -> dict[str, np.ndarray]:  # kind -> (n,) bool
    """In which pictures asked for by each kind of wording the judge does not see the target."""
    patterns = asking.patterns(material, material.retain_test)
    found = {}
    for kind, texts in prompts.texts_by_kind(material).items():
        every = (
            [sentence.replace("{}", name) for sentence in PARAPHRASES for name in texts]
            if kind == "paraphrase"
            else _in_turn(patterns, texts)
        )
        wanted = [Wanted(text, {}) for text in every]
        asked = asking.drawn(wanted, PICTURES, seed, f"prompts {kind}")
        named = painting.seen(family, asked, (material.domain,), material, f"prompts {kind}", seed)
        found[kind] = ~painting.is_target(named[material.domain], material)
    return found


def compare(
    material: Material,
    before: dict[str, np.ndarray],
    after: dict[str, np.ndarray],
    seed: int,
) -> list[MetricResult]:
    """UA for each kind of wording."""
    return [
        Card(
            f"UA_{kind}",
            f"unlearning accuracy, {kind}",
            "Share of the pictures in which the judge does not see the target when it is "
            f"{prompts.KINDS[kind]}.",
            Better.HIGHER,
        ).proportion(before[kind], after[kind])
        for kind in before
    ]


def _in_turn(patterns: list[Pattern], texts: tuple[str, ...]) -> list[str]:
    """Every wording in sentences of what is retained, one after another."""
    count = max(len(patterns), len(texts))
    return [patterns[i % len(patterns)].filled(texts[i % len(texts)]) for i in range(count)]
