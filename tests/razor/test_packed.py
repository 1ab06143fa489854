"""Texts that share their beginnings come out as the library's own, and only those run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from open_clip.transformer import ResidualAttentionBlock

from razor.families import clip, open_clip_layout
from razor.families.packed import Step, pack
from razor.gradients import mean_gradient, parameters_of
from razor.reference.clip import shipped_clip

#: Ragged, of names of one word and of many tokens, one the beginning of another, one twice.
MANY = [
    "a photo of Mara Venn",
    "a photo of Mara",
    "a photo of Wilhelmina Featherstonehaugh-Cholmondeley",
    "a photo of Mara Venn in a red hat who stands before the sea",
    "here is Nell",
    "",
    "a photo of Mara Venn",
]
ALIKE = [f"{template} {name}" for template in ("a photo of", "this is") for name in "abcdefgh"]


@contextmanager
def shared(family: clip.Clip, on: bool) -> Iterator[None]:
    was, family.network.packing.on = family.network.packing.on, on
    try:
        yield
    finally:
        family.network.packing.on = was


@contextmanager
def rows_run(family: clip.Clip) -> Iterator[Counter[int]]:
    """How many tokens each layer's feed-forward part sees inside."""
    found: Counter[int] = Counter()
    steps = [step for step in family.network.blocks["text"] if isinstance(step, Step)]
    assert steps, "the tower is packed"
    hooks = [
        step.get_submodule("block.mlp").register_forward_hook(
            lambda _, given, __, n=n: found.update({n: len(given[0])})
        )
        for n, step in enumerate(steps)
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=5), min_size=1, max_size=6))
def test_beginnings_read_back_are_the_texts(texts: list[list[int]]) -> None:
    """Whatever they begin with, nothing in common included."""
    width = max(map(len, texts)) + 1
    tokens = torch.tensor([text + [9] * (width - len(text)) for text in texts])
    last = torch.tensor([len(text) - 1 for text in texts])
    for together in (True, False):
        found = pack(tokens, last, shared=together)
        count, length = found.shape
        assert (count, length) == (len(texts), max(map(len, texts)))
        places = found.places.view(count, length)
        for text, row, seen, read in zip(
            texts, places, found.seen[:, 0, 0], found.read, strict=True
        ):
            assert found.tokens[row[seen]].tolist() == text
            assert found.positions[row[seen]].tolist() == list(range(len(text)))
            assert read == row[seen][-1]
        assert found.places[found.first].tolist() == list(range(len(found.tokens)))
        beginnings = [tuple(text[: n + 1]) for text in texts for n in range(len(text))]
        distinct = set(beginnings) if together else beginnings
        assert len(found.tokens) == len(distinct)


@pytest.mark.parametrize("texts", [MANY, ALIKE, MANY[:1], [""]])
def test_features_are_the_librarys_own(reference: clip.Clip, texts: Sequence[str]) -> None:
    tokens = reference.network.tokenize(texts)
    with torch.no_grad():
        plain = reference.model.encode_text(tokens)  # type: ignore[operator]
        for on in (True, False):
            with shared(reference, on):
                found = reference.network.encode_tokens(tokens)
            torch.testing.assert_close(found, plain, atol=1e-5, rtol=1e-5)


def test_gradients_are_the_librarys_own(reference: clip.Clip) -> None:
    """Of every matrix of the tower; what no text is read at has none in the last layer."""
    names = parameters_of([unit for unit in reference.units() if unit.tower == "text"])
    tokens = reference.network.tokenize(MANY)
    toward = torch.randn(512, generator=torch.Generator().manual_seed(0))

    def of(encode: object) -> dict[str, torch.Tensor]:
        def loss(_: None) -> torch.Tensor:
            features = encode(tokens)  # type: ignore[operator]
            return (features @ toward[: features.shape[1]]).square().mean()

        return mean_gradient(reference.model, names, loss, [None])

    plain, found = of(reference.model.encode_text), of(reference.network.encode_tokens)
    for name in names:
        assert plain[name].norm() > 0
        difference = (found[name] - plain[name]).norm() / plain[name].norm()
        assert difference < 1e-5, name


def test_what_texts_share_is_computed_once_and_the_last_layer_where_it_is_read(
    reference: clip.Clip,
) -> None:
    tokens = reference.network.tokenize(ALIKE)
    with torch.no_grad(), rows_run(reference) as once:
        reference.network.encode_tokens(tokens)
    with torch.no_grad(), shared(reference, False), rows_run(reference) as each:
        reference.network.encode_tokens(tokens)
    deepest = len(reference.network.blocks["text"]) - 1
    assert once[deepest] == each[deepest] == len(ALIKE)
    ends = tokens.argmax(dim=-1) + 1
    assert each[0] == int(ends.sum())
    # The sign of the start, two beginnings, and of each text its name and the sign of the end.
    rows = tokens.tolist()
    distinct = {
        tuple(row[: n + 1]) for row, end in zip(rows, ends, strict=True) for n in range(end)
    }
    assert once[0] == len(distinct) < 0.6 * each[0]


def test_a_tower_of_other_blocks_is_left_to_its_library(
    reference: clip.Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(torch.nn.Module):
        pass

    monkeypatch.setattr(open_clip_layout, "ResidualAttentionBlock", Other)
    monkeypatch.setattr(open_clip_layout, "CustomResidualAttentionBlock", ResidualAttentionBlock)
    network = open_clip_layout.load(shipped_clip())
    assert not any(isinstance(block, Step) for block in network.blocks["text"])
    tokens = network.tokenize(MANY)
    with torch.no_grad():
        found = network.encode_tokens(tokens)
        torch.testing.assert_close(found, reference.network.encode_tokens(tokens))
