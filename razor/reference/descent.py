"""What the trainings of the reference generators share: learning rate, precision, averaging."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from razor.reference.clip import has_native_bfloat16

Told = Callable[[float, dict[str, float]], None]

WARM_UP = 60
#: The shipped weights are an average over steps, which paints far cleaner than the last step.
AVERAGE = 0.01


def descend(
    modules: nn.Module,
    loss_at: Callable[[], Tensor],
    *,
    steps: int,
    rate: float,
    tick: Told,
) -> None:
    """AdamW on all the parameters; leaves their average over steps, frozen.

    ``loss_at()`` draws a batch and gives its loss. Where the processor has them, forward passes
    run in half precision.
    """
    average = {name: p.detach().clone() for name, p in modules.named_parameters()}
    optimizer = torch.optim.AdamW(modules.parameters(), lr=rate, weight_decay=1e-2)
    modules.train()
    for step in range(steps):
        set_rate(optimizer, rate, step, steps)
        loss = loss_at()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimizer.step()
        share = max(AVERAGE, 1 / (step + 1))
        with torch.no_grad():
            for name, parameter in modules.named_parameters():
                average[name].lerp_(parameter, share)
        tick(step / steps, {"loss": loss.item()})
    with torch.no_grad():
        for name, parameter in modules.named_parameters():
            parameter.copy_(average[name])
    modules.eval().requires_grad_(False)


def half() -> Any:
    """Autocast to bfloat16 on processors that compute in it."""
    return torch.autocast("cpu", torch.bfloat16, enabled=has_native_bfloat16())


def set_rate(optimizer: torch.optim.Optimizer, rate: float, step: int, steps: int) -> None:
    """Warm-up, then a cosine down to nothing."""
    warm_up = min(WARM_UP, max(1, steps // 5))
    if step < warm_up:
        share = (step + 1) / warm_up
    else:
        share = 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
    for group in optimizer.param_groups:
        group["lr"] = rate * share
