"""An adapter is the nearest one of its rank, and says what it leaves out."""

from __future__ import annotations

import pytest
import torch

from razor import lora


def test_full_rank_leaves_nothing_out() -> None:
    change = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    down, up, error = lora.factors(change, rank=16)
    assert (down.shape, up.shape) == ((4, 4), (6, 4))
    assert torch.allclose(up @ down, change, atol=1e-6)
    assert error < 1e-6


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_error_is_that_of_the_product(rank: int) -> None:
    change = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    down, up, error = lora.factors(change, rank)
    found = float((up @ down - change).norm() / change.norm())
    assert error == pytest.approx(found, abs=1e-5)
    # Nearest of its rank: no worse than the best of many others.
    rng = torch.Generator().manual_seed(2)
    for _ in range(50):
        other = torch.linalg.lstsq(a := torch.randn(6, rank, generator=rng), change).solution
        assert float((a @ other - change).norm() / change.norm()) >= error - 1e-6


def test_no_change_is_no_error() -> None:
    down, up, error = lora.factors(torch.zeros(3, 3), 2)
    assert not (up @ down).any()
    assert error == 0
