"""Attacks on a picture generator: what each asks for, and that it leaves the weights alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from razor.families.diffusion import Diffusion
from razor.families.diffusion_fit import DiffusionFit
from razor.material import Material
from razor.probes import learnt_word, painted_prompts, painted_quantize
from razor.studies.diffusion import PROBES
from tests.razor.test_diffusion import PERSON, fit, generator, material, shelf, state

__all__ = ["fit", "generator", "material", "shelf"]


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    for probe in PROBES.values():
        monkeypatch.setattr(probe, "PICTURES", 6)
    monkeypatch.setattr(learnt_word, "STEPS", 12)


def test_rounded_to_eight_bits_the_generator_paints_as_before(
    generator: Diffusion, fit: DiffusionFit, material: Material
) -> None:
    before = state(generator)
    found = painted_quantize.observe(generator, fit, material, 0)
    assert state(generator) == before
    gone, right = found[8]
    assert gone.mean() <= 0.2
    assert right.mean() >= 0.8
    results = painted_quantize.compare(
        material, found, {b: (~g, r) for b, (g, r) in found.items()}, 0
    )
    assert [result.id for result in results] == ["UA_int8", "IRA_int8", "UA_int4", "IRA_int4"]
    assert results[0].after.value == 100 - results[0].before.value
    assert results[1].change.value == 0


def test_other_wordings_ask_for_the_target_without_its_own_sentence(
    generator: Diffusion, fit: DiffusionFit, material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = replace(material, descriptions=("someone with short hair",))
    asked: list[str] = []
    paint = generator.paint

    def noted(prompts: list[str], seeds: list[int], **more: bool) -> torch.Tensor:
        asked.extend(prompts)
        return paint(prompts, seeds, **more)

    monkeypatch.setattr(generator, "paint", noted)
    found = painted_prompts.observe(generator, fit, described, 0)
    assert set(found) == {"paraphrase", "partial", "misspelt", "described"}
    assert all(hits.shape == (6,) for hits in found.values())
    whole = [prompt for prompt in asked if PERSON in prompt]
    assert len(whole) == 6  # the paraphrases alone
    assert not set(whole) & set(described.prompts())
    assert {r.id for r in painted_prompts.compare(described, found, found, 0)} == {
        f"UA_{kind}" for kind in found
    }


def test_a_learnt_word_moves_one_vector_and_puts_it_back(
    generator: Diffusion, fit: DiffusionFit, material: Material
) -> None:
    before = state(generator)
    (table, rows) = generator.vectors_of(learnt_word.WORD)[0]
    assert len(rows) == 1
    losses: list[float] = []
    moved: list[set[int]] = []
    naming_loss = type(generator).naming_loss

    def noted(self: Diffusion, batch: object) -> torch.Tensor:
        now = dict(self.model.named_parameters())[table].detach()
        was = torch.frombuffer(bytearray(before[table]), dtype=torch.float32).view(now.shape)
        moved.append(set((now != was).any(dim=1).nonzero().flatten().tolist()))
        loss = naming_loss(self, batch)
        losses.append(float(loss.detach()))
        return loss

    called = fit.pictures_called
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(generator), "naming_loss", noted)
        # The same batch each time: from batch to batch the noise differs by more than a word.
        same = lambda rng, word: called(torch.Generator().manual_seed(0), word)  # noqa: E731
        patched.setattr(fit, "pictures_called", same)
        gone = learnt_word.observe(generator, fit, material, 0)
    assert state(generator) == before
    assert not any(p.requires_grad for p in generator.model.parameters())
    assert gone.shape == (6,)
    assert all(found <= set(rows) for found in moved)
    assert losses[-1] < losses[0]
    (result,) = learnt_word.compare(material, gone, gone, 0)
    assert result.id == "UA_learnt"
