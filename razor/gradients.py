"""Gradients with respect to units only: no graph and no buffer for anything else."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from razor import room
from razor.errors import EditDiverged
from razor.protocols import Batch, Unit

Gradients = Mapping[str, Tensor]  # parameter name -> gradient, in the parameter's shape


def parameters_of(units: Iterable[Unit]) -> tuple[str, ...]:
    """The parameters that the units lie in, each once, in order of first appearance."""
    names = (region.parameter for unit in units for region in unit.regions)
    return tuple(dict.fromkeys(names))


@contextmanager
def trainable(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, nn.Parameter]]:
    """Only the named parameters require gradients inside; afterwards none does."""
    parameters = dict(model.named_parameters())
    chosen = {name: parameters[name] for name in names}
    for parameter in parameters.values():
        parameter.requires_grad_(False)
    for parameter in chosen.values():
        parameter.requires_grad_(True)
    try:
        yield chosen
    finally:
        for parameter in chosen.values():
            parameter.requires_grad_(False)


def mean_gradient(
    model: nn.Module,
    names: Sequence[str],
    loss: Callable[[Batch], Tensor],
    batches: Sequence[Batch],
) -> dict[str, Tensor]:
    """The mean over batches of the loss's gradient with respect to the named parameters.

    Nothing is left behind in ``.grad``. A parameter that the loss does not depend on gets zeros.
    Where memory is short, the rows of a batch go through in halves. Raises EditDiverged where a
    loss is not finite; OutOfMemory.
    """
    total: dict[str, Tensor] = {}
    with trainable(model, names) as chosen, torch.enable_grad():
        tensors = list(chosen.values())
        for batch in batches:
            found = list(room.of(model).trying(functools.partial(_gradient, loss, batch, tensors)))
            for place, (name, tensor) in enumerate(chosen.items()):
                gradient, found[place] = found[place], None  # let go of one by one
                part = torch.zeros_like(tensor) if gradient is None else gradient
                total[name] = total[name].add_(part) if name in total else part.clone()
    return {name: gradient.div_(len(batches)) for name, gradient in total.items()}


def _gradient(
    loss: Callable[[Batch], Tensor], batch: Batch, tensors: Sequence[Tensor]
) -> Sequence[Tensor | None]:
    value = loss(batch)
    if not torch.isfinite(value):
        raise EditDiverged("a loss is not finite; ask for shorter steps and try again")
    # A loss that depends on none of them has no graph at all.
    if not value.requires_grad:
        return [None] * len(tensors)
    return torch.autograd.grad(value, tensors, allow_unused=True)


def restrict(unit: Unit, tensors: Mapping[str, Tensor]) -> Tensor:
    """The unit's values out of full tensors, as one flat vector."""
    return torch.cat([region.of(tensors[region.parameter]).flatten() for region in unit.regions])
