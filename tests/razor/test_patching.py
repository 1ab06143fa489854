"""The copy that a run goes back to: small where it can be, and never short of a bit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from razor.patching import Snapshot
from razor.protocols import Region, Unit

SIDE = 8


def model(weight: Tensor) -> nn.Module:
    found = nn.Linear(SIDE, SIDE, bias=False)
    with torch.no_grad():
        found.weight.copy_(weight)
    return found


def snapshot(found: nn.Module, dtype: str) -> Snapshot:
    region = Region("weight", ((0, SIDE), (0, SIDE)))
    return Snapshot(found, [Unit("one", "text", 0, "matrix", (region,))], {"weight": dtype})


def kept_bytes(taken: Snapshot) -> int:
    return sum(tensor.nbytes for tensor in taken._before.values())


@pytest.mark.parametrize(
    ("rounded", "dtype", "share"),
    [
        (torch.float16, "F16", 0.5),
        (torch.bfloat16, "BF16", 0.5),
        (torch.float32, "F16", 1.0),  # more than the stored type holds: nothing is rounded away
        (torch.float32, "F32", 1.0),
    ],
)
def test_a_snapshot_takes_what_the_checkpoint_took_and_gives_every_bit_back(
    rounded: torch.dtype, dtype: str, share: float
) -> None:
    weight = torch.randn(SIDE, SIDE).to(rounded).float()
    weight[0, 0] = -0.0
    found = model(weight)
    taken = snapshot(found, dtype)
    assert kept_bytes(taken) == share * weight.nbytes
    with torch.no_grad():
        found.weight.add_(1.0)
    if rounded is not torch.float32:
        assert len(taken.changes()) == 1
    taken.restore()
    now = found.state_dict()["weight"]
    assert torch.equal(now.view(torch.int32), weight.view(torch.int32))
    assert taken.changes() == []
    assert taken.weights()["weight"].dtype == torch.float32
