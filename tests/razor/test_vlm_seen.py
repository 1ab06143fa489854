"""What a vision tower made of a picture is computed once, and is never what it made before."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from razor.families import vlm, vlm_seen
from razor.families.vlm import Vlm
from razor.families.vlm_batches import Shown
from razor.gradients import trainable
from tests.razor import vlm_world


@pytest.fixture(scope="module", params=["llava", "llava-next"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return vlm_world.save(request.param, tmp_path_factory.mktemp("seen") / request.param)


@pytest.fixture
def family(folder: Any) -> Vlm:
    return vlm.load(folder, "cpu")


@pytest.fixture
def shown(family: Vlm) -> Shown:
    size = family.sizing.size
    return family.show(torch.randint(0, 256, (4, 3, size, size), generator=_seeded()).float())


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def passes(family: Vlm, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures, or tiles of pictures, go through the tower from now on."""
    found: list[int] = []
    network: Any = family.model
    seen = network.model.vision_tower.forward
    assert isinstance(seen, vlm_seen.Seen)
    compute = seen._compute

    def counted(pixel_values: Tensor, **given: Any) -> Any:
        found.append(len(pixel_values))
        return compute(pixel_values, **given)

    monkeypatch.setattr(seen, "_compute", counted)
    return found


def test_a_picture_is_looked_at_once(
    family: Vlm, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = features_without(family, shown)
    looked = passes(family, monkeypatch)
    first = family.embed(shown)
    count = len(looked)
    again = family.embed(shown.take([2, 0, 2]))
    torch.testing.assert_close(first, plain, rtol=1e-4, atol=1e-5)
    assert torch.equal(again, first[[2, 0, 2]])
    assert len(looked) == count >= shown.count


def test_other_weights_see_anew(family: Vlm, shown: Shown) -> None:
    before = family.embed(shown)
    weight = next(p for name, p in family.model.named_parameters() if "vision_tower" in name)
    with torch.no_grad():
        weight.mul_(1.5)
    after = family.embed(shown)
    torch.testing.assert_close(after, features_without(family, shown), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(before, after, rtol=1e-3)


def test_a_gradient_goes_through_the_tower(family: Vlm, shown: Shown) -> None:
    family.embed(shown)
    name = next(n for n, _ in family.model.named_parameters() if n.endswith("0.mlp.fc1.weight"))
    with trainable(family.model, [name]) as chosen, torch.enable_grad():
        (found,) = torch.autograd.grad(family.features(shown).sum(), list(chosen.values()))
    assert found.abs().max() > 0


def test_what_does_not_fit_is_computed_each_time(
    family: Vlm, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = family.embed(shown)
    monkeypatch.setattr(vlm_seen, "MOST_BYTES", 0)
    fresh = vlm.load(family.folder, "cpu")
    looked = passes(fresh, monkeypatch)
    assert torch.equal(fresh.embed(shown), first)
    assert torch.equal(fresh.embed(shown), first)
    assert len(looked) >= 2 * shown.count


def features_without(family: Vlm, shown: Shown) -> Tensor:
    """The same computed by the tower itself, all pictures at once."""
    network: Any = family.model
    tower = network.model.vision_tower
    seen = tower.forward
    tower.forward = seen._compute
    try:
        return family.embed(shown)
    finally:
        tower.forward = seen
