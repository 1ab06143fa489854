"""What is kept from below the layers that move changes no bit, and is used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch

from api_schemas.methods import Razor, Slug
from razor import room
from razor.bench.editing import restored
from razor.families import clip, resume
from razor.material import Material
from razor.protocols import Unit
from tests.razor.conftest import run

DEEP = ("image.3.out", "text.1.up")


def unit(family: clip.Clip, name: str) -> Unit:
    return next(unit for unit in family.units() if unit.name == name)


def scale(family: clip.Clip, name: str, factor: float) -> None:
    moved = unit(family, name)
    weights = dict(family.model.named_parameters())
    with torch.no_grad():
        for region in moved.regions:
            region.of(weights[region.parameter]).mul_(factor)


@contextmanager
def layers_run(family: clip.Clip) -> Iterator[Counter[str]]:
    """How often each layer of each tower computes inside."""
    found: Counter[str] = Counter()
    hooks = [
        getattr(block, "block", block).mlp.register_forward_hook(
            lambda *_, name=f"{tower}.{number}": found.update([name])
        )
        for tower, blocks in family.network.blocks.items()
        for number, block in enumerate(blocks)
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@pytest.fixture
def pixels() -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (clip.CHUNK + 3, 3, 64, 64), generator=rng, dtype=torch.uint8)


TEXTS = ["a drawing of Mara Venn", "somebody in a red hat", "a house", "a drawing of Mara Venn"]


def test_only_the_layers_from_the_moving_one_on_run_again(
    reference: clip.Clip, pixels: torch.Tensor
) -> None:
    with restored(reference), reference.moving([unit(reference, name) for name in DEEP]):
        reference.embed_images(pixels)
        reference.embed_texts(TEXTS)
        for name in DEEP:
            scale(reference, name, 1.5)
        with layers_run(reference) as again:
            images, texts = reference.embed_images(pixels), reference.embed_texts(TEXTS)
        # Two chunks of pictures, one of texts.
        assert again == {"image.3": 2, "image.4": 2, "text.1": 1, "text.2": 1}
        reference.resumption.on = False
        try:
            with reference.moving([unit(reference, name) for name in DEEP]):
                assert torch.equal(images, reference.embed_images(pixels))
                assert torch.equal(texts, reference.embed_texts(TEXTS))
        finally:
            reference.resumption.on = True


def test_what_lies_below_is_believed_only_while_nobody_wrote_it(
    reference: clip.Clip, pixels: torch.Tensor
) -> None:
    with restored(reference), reference.moving([unit(reference, DEEP[0])]):
        before = reference.embed_images(pixels)
        scale(reference, "image.1.up", 2.0)  # against what was said
        after = reference.embed_images(pixels)
        assert not torch.equal(before, after)
        other = pixels.clone()
    with restored(reference):
        scale(reference, "image.1.up", 2.0)
        assert torch.equal(after, reference.embed_images(other))


def test_other_rows_are_not_taken_for_those_that_were_seen(
    reference: clip.Clip, pixels: torch.Tensor
) -> None:
    plain = reference.embed_images(255 - pixels)
    with reference.moving([unit(reference, DEEP[0])]):
        reference.embed_images(pixels)
        assert torch.equal(reference.embed_images(255 - pixels), plain)


def test_no_more_is_kept_than_there_is_room_for(
    reference: clip.Clip, pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = reference.embed_images(pixels)
    monkeypatch.setattr(reference.resumption, "_most", 0)
    with reference.moving([unit(reference, DEEP[0])]), layers_run(reference) as layers:
        scale(reference, DEEP[0], 1.0)  # written, though nothing changes
        assert torch.equal(reference.embed_images(pixels), plain)
        scale(reference, DEEP[0], 1.0)
        assert torch.equal(reference.embed_images(pixels), plain)
    assert layers["image.0"] == 4


def test_rows_that_go_through_in_halves_are_kept_in_halves(
    reference: clip.Clip, pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room.of(reference.model), "rows", 100)
    with reference.moving([unit(reference, DEEP[0])]):
        first = reference.embed_images(pixels)
        scale(reference, DEEP[0], 1.0)
        with layers_run(reference) as again:
            assert torch.equal(reference.embed_images(pixels), first)
    assert again == {"image.3": 4, "image.4": 4}


def test_after_an_error_every_layer_runs_again(reference: clip.Clip, pixels: torch.Tensor) -> None:
    plain = reference.embed_images(pixels)

    def broken(*_: object) -> None:
        raise MemoryError

    with reference.moving([unit(reference, DEEP[0])]):
        reference.embed_images(pixels)
        hook = reference.network.blocks["image"][4].register_forward_hook(broken)
        try:
            with pytest.raises(MemoryError):
                reference.resumption.through(
                    "image",
                    (0, 0, clip.CHUNK),
                    pixels,
                    lambda: reference.network.encode_images(
                        reference.sizing.normalise(pixels[: clip.CHUNK])
                    ),
                )
        finally:
            hook.remove()
    assert torch.equal(reference.embed_images(pixels), plain)


@pytest.mark.parametrize("method", [Razor(rounds=0, steps=3), Slug(towers=("image",))])
def test_a_whole_job_is_the_same_bit_for_bit_with_and_without(
    reference: clip.Clip, gather: Callable[..., Material], method: Razor | Slug
) -> None:
    material = gather("Mara Venn")
    with layers_run(reference) as fewer:
        kept = run(reference, material, method)
    reference.resumption.on = reference.known.on = False
    reference.memory.clear()
    try:
        with layers_run(reference) as more:
            anew = run(reference, material, method)
    finally:
        reference.resumption.on = reference.known.on = True
    assert [change.change.after for change in kept.changes] == [
        change.change.after for change in anew.changes
    ]
    assert kept.changes
    assert kept.report.metrics == anew.report.metrics
    assert kept.report.scores == anew.report.scores
    assert sum(fewer.values()) < sum(more.values())


def test_what_is_kept_is_bounded() -> None:
    assert resume.LEAST_BYTES == 2**28
    assert resume.SHARE == 0.25
