"""The losses against plain references, and the one sign convention."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from razor import objectives


def features(rows: int, seed: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, 8, generator=rng), dim=-1)


def test_infonce_is_clips_loss_where_captions_differ() -> None:
    images, texts, scale = features(6, 0), features(6, 1), torch.tensor(20.0)
    logits = scale * images @ texts.T
    diagonal = torch.arange(6)
    expected = (F.cross_entropy(logits, diagonal) + F.cross_entropy(logits.T, diagonal)) / 2
    found = objectives.symmetric_infonce(images, texts, scale, list("abcdef"))
    torch.testing.assert_close(found, expected)


def test_equal_captions_do_not_repel_each_other() -> None:
    images = features(1, 0).expand(4, -1)
    texts = features(1, 0).expand(4, -1)
    scale = torch.tensor(50.0)
    shared = objectives.symmetric_infonce(images, texts, scale, ["a"] * 4)
    apart = objectives.symmetric_infonce(images, texts, scale, list("abcd"))
    torch.testing.assert_close(shared, apart)  # uniform either way: nothing to tell apart
    mixed = torch.cat([features(1, 0).expand(2, -1), features(2, 5)])
    pairs = objectives.symmetric_infonce(mixed, mixed, scale, ["a", "a", "b", "c"])
    split = objectives.symmetric_infonce(mixed, mixed, scale, ["a", "d", "b", "c"])
    assert pairs <= split + 1e-6


def test_moving_along_the_forget_gradient_forgets() -> None:
    raw = torch.randn(5, 8, generator=torch.Generator().manual_seed(2), requires_grad=True)
    text = features(1, 3)
    loss = objectives.cosine_forget(F.normalize(raw, dim=-1), text)
    (gradient,) = torch.autograd.grad(loss, [raw])
    with torch.no_grad():
        before = (F.normalize(raw, dim=-1) @ text.T).mean()
        along = (F.normalize(raw + 0.1 * gradient, dim=-1) @ text.T).mean()
        against = (F.normalize(raw - 0.1 * gradient, dim=-1) @ text.T).mean()
    assert along < before < against


def test_drift_is_zero_for_the_frozen_model_and_only_there() -> None:
    images, texts = features(4, 0), features(4, 1)
    frozen = images @ texts.T
    assert objectives.similarity_drift(images, texts, frozen) == 0
    assert objectives.similarity_drift(images, features(4, 2), frozen) > 0
