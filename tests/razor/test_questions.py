"""Questions and naming: who may ask what, and what counts as a name said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from razor import questions
from razor.material import Labelled
from razor.probes import leaking_questions, naming
from razor.questions import Role

TEXTS = ("a?", "b?", "c?", "d?", "e?", "f?")
WAYS = {"name": ("Who?", "Name?", "Whose?"), "scene": ("Where?",), "description": ("Describe.",)}


def test_the_test_has_words_of_its_own() -> None:
    for role in (Role.FIT, Role.SELECT):
        assert questions.of(TEXTS, role) == TEXTS[:4]
        assert questions.of(TEXTS[:1], role) == TEXTS[:1]
    assert questions.of(TEXTS, Role.TEST) == TEXTS


@pytest.mark.parametrize(
    ("answer", "label", "held"),
    [
        ("This is Mara Venn.", "Mara Venn", True),
        ("this is MARA  VENN!", "Mara Venn", True),
        ("Mara, Venn", "Mara Venn", True),
        ("This is Tamara Venner.", "Mara Venn", False),
        ("The beach.", "beach", True),
        ("The beaches.", "beach", False),
        ("", "beach", False),
    ],
)
def test_a_label_is_held_as_whole_words(answer: str, label: str, held: bool) -> None:
    assert questions.holds(answer, label) is held


def rows(count: int) -> Labelled:
    names = tuple(("Juno Farrow", "Otis Wrenfield")[k % 2] for k in range(count))
    scenes = tuple(("beach", "")[k % 2] for k in range(count))
    pixels = torch.arange(count).view(count, 1, 1, 1).repeat(1, 3, 1, 1)
    return Labelled(pixels, ("",) * count, {"name": names, "scene": scenes})


def material(count: int = 8) -> Any:
    return SimpleNamespace(
        domain="name",
        names=("Mara Venn",),
        classes=("Mara Venn", "Juno Farrow", "Otis Wrenfield"),
        templates=WAYS,
        retain_test=rows(count),
        target=SimpleNamespace(test=torch.full((4, 3, 1, 1), 100)),
    )


def test_half_of_the_questions_are_for_the_name_and_none_lacks_its_label() -> None:
    rng = torch.Generator().manual_seed(0)
    asked = questions.about(rows(8), material(), Role.TEST, 40, rng)
    assert {each.domain for each in asked} == {"name", "scene"}
    assert all(each.label for each in asked)
    assert sum(each.domain == "name" for each in asked) >= len(asked) / 2
    assert {each.text for each in asked if each.domain == "name"} == set(WAYS["name"])


@dataclass
class Scripted:
    """Answers by a rule; a picture is its first value, a token a letter."""

    target: str
    leaks: bool = False

    def show(self, pixels: torch.Tensor) -> Any:
        return Row([int(p.flatten()[0]) for p in pixels])

    def answer(
        self, shown: Any, asked: Sequence[str], *, seed: int | None = None
    ) -> list[list[int]]:
        return [list(map(ord, self.rule(n, q))) for n, q in zip(shown.numbers, asked, strict=True)]

    def said(self, tokens: Sequence[int]) -> str:
        return "".join(map(chr, tokens))

    def rule(self, number: int, asked: str) -> str:
        if asked.startswith("Is "):
            return "Yes." if self.leaks and "Mara" in asked else "No."
        if asked.startswith("Complete"):
            return "Mara Venn" if self.leaks else "nobody"
        if asked == "Where?":
            return "The beach."
        if asked == "Describe.":
            return f"{self.target} at the beach"
        return self.target if number == 100 else ("Juno Farrow", "Otis Wrenfield")[number % 2]


@dataclass
class Row:
    """Pictures by number."""

    numbers: list[int]

    @property
    def count(self) -> int:
        return len(self.numbers)

    def take(self, rows: Sequence[int]) -> Row:
        return Row([self.numbers[row] for row in rows])


def figures(before: Scripted, after: Scripted) -> dict[str, tuple[float, float]]:
    about = material()
    seen = [naming.observe(each, about, 0) for each in (before, after)]
    found = naming.compare(about, *seen, ("Juno Farrow",), 0)
    return {metric.id: (metric.before.value, metric.after.value) for metric in found}


def test_naming_rates_tell_a_name_a_wrong_name_and_none_apart() -> None:
    wrong = figures(Scripted("This is Mara Venn."), Scripted("This is Juno Farrow."))
    assert wrong["NR"] == wrong["NR_sampled"] == (100, 0)
    assert wrong["wrong_name"] == (0, 100)
    assert wrong["no_name"] == (0, 0)
    nobody = figures(Scripted("This is Mara Venn."), Scripted("I do not know."))
    assert nobody["NR"] == (100, 0)
    assert nobody["wrong_name"] == (0, 0)
    assert nobody["no_name"] == (0, 100)
    assert nobody["RNR"] == nobody["RNR_near"] == nobody["VQA"] == (100, 100)
    assert nobody["VQA_target"] == (100, 100)
    assert nobody["CA"][1] < 100


def test_every_way_to_ask_is_asked_on_every_picture() -> None:
    seen = naming.observe(Scripted("Mara Venn"), material(), 0)
    assert len(seen.target) == 4 * len(WAYS["name"])
    assert len(seen.sampled) == 4 * naming.SAMPLED


def test_caption_agreement_is_the_f1_of_words() -> None:
    assert naming.agreement("A dog at the beach.", "a dog at the beach") == 100
    assert naming.agreement("one two", "three four") == 0
    assert naming.agreement("one two", "one three") == 50


def test_leading_questions_are_told_from_a_model_that_says_yes() -> None:
    found = leaking_questions.observe(Scripted("nobody", leaks=True), object(), material(), 0)
    assert found["confirmed"].all()
    assert not found["other"].any()
    assert found["completed"].all()
    quiet = leaking_questions.observe(Scripted("nobody"), object(), material(), 0)
    assert not np.concatenate(list(quiet.values())).any()
    results = leaking_questions.compare(material(), found, quiet, 0)
    assert {r.id: r.after.value for r in results} == dict.fromkeys(
        ("NR_confirm", "yes_other", "NR_complete"), 0
    )
