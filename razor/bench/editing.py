"""A run's changes in the model that it was made on, for as long as they are looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from razor.patching import DTYPES
from razor.protocols import Family
from razor.serialize import Located


@torch.no_grad()
def put(family: Family, changes: Sequence[Located]) -> None:
    """Writes a run's changes into the model, as applying its patch would."""
    parameters = dict(family.model.named_parameters())
    for located in changes:
        change = located.change
        values = torch.frombuffer(bytearray(change.after), dtype=DTYPES[change.dtype])
        target = parameters[change.parameter]
        target.copy_(values.view(change.shape).to(target.dtype))
    family.memory.clear()


@contextmanager
def restored(family: Family) -> Iterator[None]:
    """Whatever is written into the model inside is undone afterwards."""
    kept = {name: p.detach().clone() for name, p in family.model.named_parameters()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, parameter in family.model.named_parameters():
                parameter.copy_(kept[name])
        family.memory.clear()
