"""Attacks and what they are made of: laws, each with a control."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import nn

from api_schemas.requests import Probe
from razor import quantize, statistics, wordings
from razor.families import clip
from razor.families.clip_fit import ClipFit
from razor.material import Material
from razor.probes import linear, prompts, relearn, zero_shot
from razor.reference.clip import read_record, shipped_gold
from razor.studies.clip import PROBES
from tests.razor.test_unlearn import state

PERSON = "Mara Venn"
FEW = st.integers(0, 9)


@pytest.fixture(scope="module")
def gold() -> clip.Clip:
    """A model trained without the person: the positive control of every attack."""
    return clip.load(shipped_gold())


@pytest.fixture(scope="module")
def fits(
    gold: clip.Clip, reference: clip.Clip, gather: Callable[..., Material]
) -> list[tuple[clip.Clip, ClipFit]]:
    """The model that knows the person and the one that never did, and what may be fitted on."""
    return [(family, ClipFit(family, gather(PERSON), 0)) for family in (reference, gold)]


@given(arrays.arrays(float, FEW, elements=FEW), arrays.arrays(float, FEW, elements=FEW))
def test_auc_counts_pairs(first: np.ndarray, second: np.ndarray) -> None:
    if not len(first) or not len(second):
        return
    wins = [(a > b) + (a == b) / 2 for a in first for b in second]
    assert statistics.auc(first, second) == pytest.approx(np.mean(wins))
    assert statistics.auc(second, first) == pytest.approx(1 - np.mean(wins))


def test_leakage_is_two_sided() -> None:
    low, high = np.arange(4.0), np.arange(40.0) + 10
    assert zero_shot.leakage(low, high) == zero_shot.leakage(high, low) == 100
    assert zero_shot.leakage(high, high) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("width", [32, 40, 96])
def test_rounding_keeps_few_levels_and_the_largest_weight(bits: int, width: int) -> None:
    weight = torch.randn(5, width, generator=torch.Generator().manual_seed(0))
    found = quantize.rounded(weight, bits)
    assert found.shape == weight.shape
    for row, was in zip(found, weight, strict=True):
        for start in range(0, width, quantize.GROUP):
            group, before = row[start : start + quantize.GROUP], was[start : start + quantize.GROUP]
            assert len(group.unique()) <= 2**bits - 1
            step = before.abs().max() / (2 ** (bits - 1) - 1)
            assert torch.all((group - before).abs() <= step / 2 + 1e-6)
    assert torch.allclose(quantize.rounded(found, bits), found)
    assert not torch.equal(found, weight)


def test_zeros_stay_zeros_under_rounding() -> None:
    assert torch.equal(quantize.rounded(torch.zeros(2, 64), 4), torch.zeros(2, 64))


def test_rounding_puts_every_bit_back_also_after_an_error() -> None:
    model = nn.Linear(8, 4)
    before = model.weight.detach().clone()
    inside = []

    def fail() -> None:
        with quantize.quantized(model, ["weight"], 4):
            inside.append(model.weight.detach().clone())
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert not torch.equal(inside[0], before)
    assert torch.equal(model.weight, before)


def test_slips_of_the_two_kinds_share_nothing() -> None:
    names = (PERSON, "Bo Li", "Harriet")  # of Harriet two slips meet in Hariet
    learned, measured = (set(wordings.slips(names, middle=m)) for m in (False, True))
    assert measured
    assert learned
    assert not learned & measured
    assert not (learned | measured) & set(names)


def test_sentences_learned_are_none_that_are_asked() -> None:
    assert not set(wordings.SENTENCES) & set(prompts.PARAPHRASES)


def test_half_a_name_that_somebody_else_bears_is_left_alone() -> None:
    assert wordings.partial([PERSON], ["Mara Lind", "Oskar Brill"]) == ("Venn",)
    assert wordings.partial(["Plato"], []) == ()


def test_a_linear_probe_separates_what_can_be_separated() -> None:
    features = torch.eye(6)[[0, 0, 1, 1, 1, 2]]
    answers = torch.tensor([0, 0, 1, 1, 1, 2])
    weight, bias = linear.fitted(features, answers)
    assert torch.equal((features @ weight.T + bias).argmax(dim=1), answers)


def test_the_gold_model_never_knew_the_person(
    gold: clip.Clip, reference: clip.Clip, gather: Callable[..., Material]
) -> None:
    assert PERSON in read_record(shipped_gold()).without
    material = gather(PERSON)
    knows = zero_shot.observe(reference, material).target_answers == 0
    never = zero_shot.observe(gold, material).target_answers == 0
    assert knows.mean() >= 0.9
    assert never.mean() <= 0.1


@pytest.mark.parametrize("probe", list(PROBES))
def test_an_attack_tells_gold_from_the_model_that_knows(
    probe: Probe,
    fits: list[tuple[clip.Clip, ClipFit]],
    gather: Callable[..., Material],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On the model that knows it fires, on the one that never knew it finds less."""
    # Ten steps of relearning teach the person to anybody, so they tell nothing here.
    monkeypatch.setattr(relearn, "STEPS", (2, 5))
    material = gather(PERSON)
    attack = PROBES[probe]
    seen = []
    for family, fit in fits:
        before = state(family)
        seen.append(attack.observe(family, fit, material, 0))
        assert state(family) == before
    results = attack.compare(material, *seen, 0)
    assert results
    found = [result for result in results if result.id.startswith("M1")]
    assert all(result.before.value >= 50 for result in found)
    assert all(result.after.value < result.before.value for result in found)
