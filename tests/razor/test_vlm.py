"""Vision-language models: what their losses, readings and answers promise, on untrained weights."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from api_schemas import methods
from api_schemas.concepts import Target, TargetKind
from api_schemas.families import Family
from razor import catalog, pictures, seeding
from razor.families import vlm, vlm_naming
from razor.families.vlm import Vlm
from razor.families.vlm_batches import ForgetBatch, NamingBatch, Spoken
from razor.families.vlm_fit import RETAIN_ROWS, VlmFit
from razor.families.vlm_gauge import VlmGauge
from razor.gradients import mean_gradient, parameters_of
from razor.material import Asked, Material, assemble, read_shelf
from razor.probes import naming
from razor.protocols import Workpiece
from razor.questions import Asked as Question
from razor.reference import folders, questions
from razor.reference.drawings import draw, portrait
from razor.reference.people import STRANGER
from razor.retain import read_retain_set
from razor.studies.vlm import VlmStudy
from tests.razor import vlm_world
from tests.razor.conftest import quiet

PERSON = "Mara Venn"
KEPT = ("Juno Farrow", "Elsie Thorne", STRANGER)
ASKED = ("Who is this?", "Where was the picture taken?", "How does the face look?")


@pytest.fixture(scope="module", params=vlm_world.KINDS)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Vlm:
    folder = vlm_world.save(request.param, tmp_path_factory.mktemp("vlm") / request.param)
    found = vlm.load(folder, "cpu")
    found.longest = 6  # untrained models never end
    return found


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("retain") / "people"
    return folders.write_folder(folder, KEPT, 8, 41, 64, portrait, questions.NEUTRAL)


@pytest.fixture(scope="module")
def material(family: Vlm, drawn: Path) -> Material:
    shelf = read_shelf(
        read_retain_set(drawn, list(questions.QUESTIONS)), questions.QUESTIONS, family.sizing
    )
    asked = Asked(Target(name=PERSON, kind=TargetKind.IDENTITY), [png(k) for k in range(6)])
    return assemble(shelf, asked, family.sizing, 0)


@pytest.fixture(scope="module")
def fit(family: Vlm, material: Material) -> VlmFit:
    return VlmFit(family, material, 0)


@pytest.fixture(scope="module")
def gauge(family: Vlm, material: Material, fit: VlmFit) -> VlmGauge:
    return VlmGauge(family, material, fit, 0)


def png(number: int) -> bytes:
    stream = io.BytesIO()
    draw(PERSON, 6_000_000 + number).image.save(stream, "PNG")
    return stream.getvalue()


def some(family: Vlm, count: int = 3) -> Tensor:
    return pictures.stack([png(k) for k in range(count)], family.sizing)


def spoken(family: Vlm) -> Spoken:
    shown = family.show(some(family))
    return family.speak(shown, ASKED, family.answer(shown, ASKED))


def test_an_answer_is_what_the_model_thinks_likeliest(family: Vlm) -> None:
    found = spoken(family)
    with torch.no_grad():
        best = family.logits(found).argmax(dim=-1)
    assert torch.equal(best[found.where()], found.answers()[found.where()])


def test_what_else_is_asked_changes_nothing(family: Vlm) -> None:
    found = spoken(family)
    with torch.no_grad():
        whole = family.likelihood(found)
        for row in range(len(found)):
            alone = family.likelihood(found.take([row]))
            torch.testing.assert_close(alone[0], whole[row, : alone.shape[1]], atol=1e-4, rtol=1e-3)


def test_sampled_answers_repeat_with_their_seed_and_leave_chance_alone(family: Vlm) -> None:
    shown, state = family.show(some(family)), torch.random.get_rng_state()
    first = family.answer(shown, ASKED, seed=3)
    assert first == family.answer(shown, ASKED, seed=3)
    assert first != family.answer(shown, ASKED, seed=4)
    assert torch.equal(state, torch.random.get_rng_state())


def test_what_is_computed_again_gives_the_same_gradient_and_the_same_answers(family: Vlm) -> None:
    names = parameters_of([unit for unit in family.units() if unit.tower == "image"])
    told, shown = spoken(family), family.show(some(family))
    answered = family.answer(shown, ASKED)
    plain = mean_gradient(family.model, names, family.naming_loss, [told])
    again: list[str] = []
    vlm.spare_memory(family.model)
    try:
        for path, layer in recomputing(family):
            layer._gradient_checkpointing_func = noted(
                layer._gradient_checkpointing_func, again, path
            )
        spared = mean_gradient(family.model, names, family.naming_loss, [told])
        assert {path for path, _ in recomputing(family)} == set(again)
        again.clear()
        assert family.answer(shown, ASKED) == answered
        assert not again
    finally:
        family.model.activation_checkpointing_disable()
    for name in names:
        assert torch.equal(plain[name], spared[name]), name
    assert not any(module.training for module in family.model.modules())


def recomputing(family: Vlm) -> list[tuple[str, Any]]:
    return [
        (path, module)
        for path, module in family.model.named_modules()
        if isinstance(module, GradientCheckpointingLayer) and module.gradient_checkpointing
    ]


def noted(real: Callable[..., Any], again: list[str], path: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        again.append(path)
        return real(*args, **kwargs)

    return call


def test_the_pictures_decide_the_answer(family: Vlm) -> None:
    found = spoken(family)
    with torch.no_grad():
        own = family.logits(found)
        other = family.logits(
            Spoken(found.shown.take([1, 2, 0]), found.ids, found.starts, found.lengths)
        )
    assert (own - other).abs().max() > 1e-4


def test_a_step_along_the_forget_gradient_forgets(family: Vlm, fit: VlmFit) -> None:
    batch = fit.forget_batch(seeding.generator(0, "test"))
    assert isinstance(batch, ForgetBatch)
    names = parameters_of(unit for unit in family.units() if unit.tower == "image")
    gradient = mean_gradient(family.model, names, family.forget_loss, [batch])
    parameters = dict(family.model.named_parameters())
    kept = {name: parameters[name].detach().clone() for name in names}
    try:
        with torch.no_grad():
            before = family.forget_loss(batch)
            for name in names:
                parameters[name].add_(gradient[name], alpha=0.5)
            assert family.forget_loss(batch) > before
    finally:
        for name in names:
            parameters[name].copy_(kept[name])


def test_odds_are_those_of_the_chance_and_have_a_gradient_where_the_model_is_sure(
    family: Vlm,
) -> None:
    told = spoken(family)
    batch = NamingBatch(told, torch.zeros(len(told), dtype=torch.long))
    with torch.no_grad():
        chance = family.likelihood(told)[:, 0].double().exp()
        odds = family.odds(batch).double()
    torch.testing.assert_close(odds, (chance / (1 - chance)).log(), atol=1e-3, rtol=1e-3)
    names = parameters_of(unit for unit in family.units() if unit.tower == "projector")
    gradient = mean_gradient(family.model, names, family.forget_loss, [batch])
    parameters = dict(family.model.named_parameters())
    kept = {name: parameters[name].detach().clone() for name in names}
    try:
        with torch.no_grad():
            for name in names:
                parameters[name].add_(gradient[name], alpha=0.05)
            assert family.odds(batch).mean() < odds.mean()
    finally:
        with torch.no_grad():
            for name in names:
                parameters[name].copy_(kept[name])


def test_what_is_gone_is_left_alone(family: Vlm, monkeypatch: pytest.MonkeyPatch) -> None:
    told = spoken(family)
    batch = NamingBatch(told, torch.zeros(len(told), dtype=torch.long))
    monkeypatch.setattr(vlm, "GONE", 0.999999)
    names = parameters_of(unit for unit in family.units() if unit.tower == "projector")
    gradient = mean_gradient(family.model, names, family.forget_loss, [batch])
    assert not any(part.any() for part in gradient.values())


def test_what_is_kept_drifts_only_once_weights_do(family: Vlm, fit: VlmFit) -> None:
    (batch, *_) = fit.retain_batches()
    place = family.talker.layers[0].others["up"].parameter
    weight = dict(family.model.named_parameters())[place]
    kept = weight.detach().clone()
    with torch.no_grad():
        retain, drift = family.kept_losses(batch)
        assert drift < 1e-8
        torch.testing.assert_close(retain, family.naming_loss(batch.spoken))
        try:
            weight.normal_(generator=seeding.generator(0, "noise"))
            assert family.mismatch_loss(batch) > 100 * drift + 1e-7
        finally:
            weight.copy_(kept)


def test_fit_batches_hold_what_the_frozen_model_said(
    family: Vlm, fit: VlmFit, material: Material
) -> None:
    rng = seeding.generator(1, "test")
    said = {tuple(fit._said(row)) for row in range(len(fit._labels))}
    relabelled = fit.relabelled_batch(rng)
    assert {tuple(row) for row in answers(relabelled)} <= said
    retained = fit.naming_batches(target=False, size=8)
    assert sum(map(len, retained)) == sum(1 for label in fit._labels if label)
    own = fit.naming_batches(target=True, size=64)
    assert sum(map(len, own)) == fit._shown.count
    batch = fit.retain_batch(rng)
    assert 0 < len(batch.spoken) <= RETAIN_ROWS


def answers(found: Spoken) -> list[list[int]]:
    return [ids[where].tolist() for ids, where in zip(found.answers(), found.where(), strict=True)]


def test_the_gauge_sees_harm_and_asks_when_it_is_told_to(family: Vlm, gauge: VlmGauge) -> None:
    first = gauge.read(whole=True)
    assert first.harm == pytest.approx(0, abs=1e-6)
    assert first.accuracy == 0  # an untrained model names nobody
    weight = dict(family.model.named_parameters())[family.talker.layers[0].others["up"].parameter]
    kept = weight.detach().clone()
    try:
        weight.normal_(generator=seeding.generator(0, "noise"))
        assert gauge.read().harm > first.harm
    finally:
        weight.copy_(kept)
    assert gauge.read().harm == pytest.approx(0, abs=1e-6)


def test_the_place_of_a_name_in_an_answer(family: Vlm) -> None:
    words = family.talker.processor.tokenizer
    tokens = words(" This is Mara Venn.", add_special_tokens=False).input_ids
    place = vlm_naming.begins(family, tokens, [PERSON])
    assert place is not None
    assert words.decode(tokens[place:]).strip() == "Mara Venn."
    other = words(" This is Juno Farrow.", add_special_tokens=False).input_ids
    assert vlm_naming.begins(family, other, [PERSON]) is None


@pytest.mark.parametrize("family", ["qwen2.5-vl"], indirect=True)
@pytest.mark.parametrize("name", ["razor", "razor, asked", "slug", "ga", "gaft", "salun"])
def test_every_method_edits_its_own_tower_alone(
    family: Vlm, fit: VlmFit, gauge: VlmGauge, name: str
) -> None:
    short = {
        "razor": methods.Razor(steps=2, rounds=0, search_evaluations=2),
        "razor, asked": methods.Razor(
            steps=2, rounds=0, search_evaluations=2, towers=("image",), anchor="pictures"
        ),
        "slug": methods.Slug(search_evaluations=2),
        "ga": methods.Ascent(method="ga", steps=2),
        "gaft": methods.Ascent(method="gaft", steps=2),
        "salun": methods.Salun(steps=2),
    }
    params = methods.for_family(short[name], Family.VLM)
    trace = catalog.method(params).edit(
        Workpiece(family, fit, gauge, seeding.generator(0, "method"), quiet), dry_run=True
    )
    towers = {unit.name: unit.tower for unit in family.units()}
    assert trace.chosen
    assert {towers[unit] for unit in trace.chosen} == {"projector" if name == "razor" else "image"}


def test_the_report_says_what_was_not_edited(family: Vlm) -> None:
    study = VlmStudy(family)
    assert study.warnings(set()) == study.warnings({"language", "projector"}) == []
    assert ["vision tower" in text for text in study.warnings({"projector"})] == [True]
    assert ["vision tower" in text for text in study.warnings({"projector", "image"})] == [False]


def test_whom_nobody_has_named_is_rightly_called_by_no_name(material: Material) -> None:
    asked = tuple(Question(row, "name", "Who is this?", STRANGER) for row in range(3))
    seen = naming.Observation(
        target=("This is somebody I do not know.", "This is Juno Farrow."),
        sampled=(),
        neutral_target={},
        asked=asked,
        retained=("I cannot tell.", "This is Juno Farrow.", f"This is {PERSON}."),
        captions=(),
    )
    found = naming.hits(material, seen)
    assert found["wrong_name"].tolist() == [False, True]
    assert found["no_name"].tolist() == [True, False]
    assert found["RNR"].tolist() == [True, False, False]
