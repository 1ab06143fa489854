"""Features are taken from before only while they are the features of these rows, here and now."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from razor.bench.editing import restored
from razor.families import clip
from razor.families.clip_fit import ClipFit
from razor.families.known import KnownFeatures
from razor.material import PARTS, Material, Shelf


@pytest.fixture
def pixels() -> torch.Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (5, 3, 64, 64), generator=rng, dtype=torch.uint8)


def passes(family: clip.Clip, call: Callable[[], object]) -> int:
    before = family.passes.forward
    call()
    return family.passes.forward - before


def test_the_same_rows_are_embedded_once(reference: clip.Clip, pixels: torch.Tensor) -> None:
    texts = ["a house", "a tree", "a house"]
    assert passes(reference, lambda: reference.embed_images(pixels)) == 1
    assert passes(reference, lambda: reference.embed_images(pixels)) == 0
    assert passes(reference, lambda: reference.embed_images(pixels.clone())) == 1
    reference.embed_texts(texts)
    assert passes(reference, lambda: reference.embed_texts(texts)) == 0
    assert passes(reference, lambda: reference.embed_texts(texts[:1])) == 1


@pytest.mark.parametrize("tower", ["image", "text"])
def test_a_written_weight_makes_them_new_in_its_own_tower_alone(
    reference: clip.Clip, pixels: torch.Tensor, tower: str
) -> None:
    texts = ["a house", "a tree"]
    images, words = reference.embed_images(pixels), reference.embed_texts(texts)
    weight = dict(reference.model.named_parameters())[reference.network.towers[tower][-1]]
    with restored(reference), torch.no_grad():
        weight.mul_(1.5)
        other = tower != "image", tower != "text"
        assert passes(reference, lambda: reference.embed_images(pixels)) == (not other[0])
        assert passes(reference, lambda: reference.embed_texts(texts)) == (not other[1])
        weight.div_(1.5)
    assert torch.equal(reference.embed_images(pixels), images)
    assert torch.equal(reference.embed_texts(texts), words)


def test_rows_that_were_written_into_are_others(reference: clip.Clip, pixels: torch.Tensor) -> None:
    reference.embed_images(pixels)
    pixels[0] = 255 - pixels[0]
    assert torch.equal(reference.embed_images(pixels), reference.embed_images(pixels.clone()))


def test_a_tensor_in_the_place_of_one_that_is_gone_is_not_taken_for_it() -> None:
    known = KnownFeatures()
    first = torch.zeros(2)
    known.pictures(first, 0, lambda: torch.zeros(1))
    place = id(first)
    known._pictures[place + 1] = known._pictures.pop(place)
    del first
    second = torch.zeros(2)
    # As if the new one lay where the old one was.
    known._pictures[id(second)] = next(iter(known._pictures.values()))
    assert known.pictures(second, 0, lambda: torch.ones(1)).item() == 1
    assert known.pictures(torch.zeros(2), 0, lambda: torch.ones(1)).item() == 1
    assert len(known._pictures) <= 2, "what is gone is not held"


def test_turned_off_nothing_is_known() -> None:
    known = KnownFeatures(on=False)
    pixels, made = torch.zeros(2), iter(range(9))
    values = [known.pictures(pixels, 0, lambda: torch.tensor(next(made))) for _ in range(2)]
    values += [known.texts(["a"], 0, lambda: torch.tensor(next(made))) for _ in range(2)]
    assert [int(value) for value in values] == [0, 1, 2, 3]


def test_two_jobs_on_one_retain_set_have_the_very_same_rows(
    shelf: Shelf, gather: Callable[..., Material]
) -> None:
    first, second = gather("Mara Venn"), gather("Mara Venn")
    assert first.retain_test is second.retain_test
    assert first.retain_fit.pixels is second.retain_fit.pixels
    assert gather("Oskar Brill").retain_fit is not first.retain_fit
    for number in range(PARTS + 3):
        shelf.part([number])
    assert len(shelf._parts) == PARTS
    assert shelf.part([0, 2]).captions == (shelf.rows.captions[0], shelf.rows.captions[2])


def test_augmented_pictures_are_looked_at_when_a_loss_asks_and_each_once(
    reference: clip.Clip, gather: Callable[..., Material]
) -> None:
    fit = ClipFit(reference, gather("Mara Venn"), 0)
    by_name = fit.forget_batch(torch.Generator().manual_seed(0), by_name=True)
    assert passes(reference, by_name.features) == 0, "the name says what to expect"
    scored = fit.forget_batch(torch.Generator().manual_seed(0), by_name=True, scoring=True)
    assert passes(reference, scored.features) == 1
    assert passes(reference, scored.features) == 0
    found = [fit.forget_batch(torch.Generator().manual_seed(seed)) for seed in range(1, 41)]
    assert sum(passes(reference, batch.features) for batch in found) < len(found)
    for batch in (scored, *found[::10]):
        torch.testing.assert_close(
            batch.features(), reference.embed_images(batch.pixels), atol=1e-5, rtol=1e-5
        )


def test_whoever_is_next_no_retained_picture_is_looked_at_again(
    reference: clip.Clip, gather: Callable[..., Material]
) -> None:
    first, second = gather("Mara Venn"), gather("Oskar Brill")
    parts = [(m, (m.retain_fit, m.retain_select, m.retain_test)) for m in (first, second)]
    plain = [reference.embed_images(part.pixels.clone()) for _, own in parts for part in own]
    reference.known = KnownFeatures()
    found = []
    for number, (_, own) in enumerate(parts):
        reference.retain(own)
        made = passes(reference, lambda own=own: [reference.embed_images(p.pixels) for p in own])
        assert bool(made) == (number == 0)
        found += [reference.embed_images(part.pixels) for part in own]
    for a, b in zip(found, plain, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    reference.known.on = False
    try:
        anew = [reference.embed_images(part.pixels) for _, own in parts for part in own]
    finally:
        reference.known.on = True
    assert all(map(torch.equal, found, anew)), "known or not, the very same bits"


def test_of_an_edited_tower_only_the_part_that_is_asked_for_is_looked_at(
    reference: clip.Clip, gather: Callable[..., Material]
) -> None:
    part = gather("Mara Venn").retain_select
    reference.retain((part,))
    weight = dict(reference.model.named_parameters())[reference.network.towers["image"][-1]]
    with restored(reference), torch.no_grad():
        weight.mul_(1.5)
        seen: list[int] = []
        hook = reference.network.blocks["image"][0].register_forward_pre_hook(
            lambda _, given: seen.append(len(given[0]))
        )
        found = reference.embed_images(part.pixels)
        hook.remove()
        assert seen == [len(part)]
        assert torch.equal(found, reference.embed_images(part.pixels.clone()))
