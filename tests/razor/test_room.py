"""A device that has room for fewer rows than a batch: the same figures, up to rounding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from razor import room
from razor.errors import OutOfMemory
from razor.gradients import mean_gradient

ROWS = 12


class Tight(nn.Module):
    """A small network on a device that has room for ``most`` rows at once."""

    def __init__(self, most: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(5, 7), nn.Linear(7, 3)
        self.most = most
        self.tried: list[int] = []

    def encode(self, rows: Tensor) -> Tensor:
        self.tried.append(len(rows))
        if len(rows) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.second(torch.tanh(self.first(rows)))

    def forward(self, rows: Tensor) -> Tensor:
        return room.of(self).through(len(rows), lambda at: self.encode(rows[at.start : at.stop]))


def loss(network: Tight, rows: Tensor) -> Tensor:
    """In which every row meets every other, as in a contrastive loss."""
    features = nn.functional.normalize(network(rows), dim=-1)
    return (features @ features.T).logsumexp(dim=1).mean()


def gradient(network: Tight, rows: Tensor) -> dict[str, Tensor]:
    names = [name for name, _ in network.named_parameters()]
    return mean_gradient(network, names, lambda batch: loss(network, batch), [rows])


@pytest.fixture
def rows() -> Tensor:
    return torch.randn(ROWS, 5, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("most", [1, 3, 7])
def test_halves_give_the_gradient_of_the_whole(rows: Tensor, most: int) -> None:
    whole, halved = Tight(ROWS), Tight(most)
    wanted, found = gradient(whole, rows), gradient(halved, rows)
    assert whole.tried == [ROWS]
    assert max(halved.tried) > most, "the control: the whole batch was tried and did not fit"
    limit = room.of(halved).rows
    assert limit is not None
    assert limit <= most
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
        assert value.abs().max() > 0


@pytest.mark.parametrize("most", [1, 3, 7])
def test_halves_give_the_figures_of_the_whole(rows: Tensor, most: int) -> None:
    with torch.no_grad():
        torch.testing.assert_close(Tight(most)(rows), Tight(ROWS)(rows))


def test_rows_come_back_in_their_order() -> None:
    network = Tight(1)

    def run(at: range) -> list[int]:
        if len(at) > 2:
            raise MemoryError
        return list(at)

    found = room.of(network).parts(9, 5, run)
    assert [row for part in found for row in part] == list(range(9))


def test_where_not_one_row_fits_it_is_said(rows: Tensor) -> None:
    for grad in (True, False):
        with torch.set_grad_enabled(grad), pytest.raises(OutOfMemory, match="more memory"):
            gradient(Tight(0), rows) if grad else Tight(0)(rows)


def test_other_errors_are_raised_at_once(rows: Tensor) -> None:
    network = Tight(ROWS)
    with pytest.raises(RuntimeError, match="shapes"):
        network(torch.ones(ROWS, 4))
    assert room.of(network).rows is None


def test_the_next_run_finds_out_by_itself(rows: Tensor) -> None:
    network = Tight(3)
    gradient(network, rows)
    room.of(network).forget()
    network.most = ROWS
    network.tried.clear()
    gradient(network, rows)
    assert network.tried == [ROWS]
