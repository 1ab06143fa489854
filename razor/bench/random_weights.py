"""Parts of checkpoints with random weights in half precision, and what loading them needs.

Architectures are built without memory; weights are drawn and written tensor by tensor, so there is
never a second copy of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from razor import heads
from razor.errors import OutOfMemory
from razor.gradients import parameters_of
from razor.heads import Layer

#: How large word vectors are at first, as both libraries draw them.
WORDS: Final = 0.02
MEMORY: Final = Path("/proc/meminfo")
GIGABYTE: Final = 1e9


@dataclass(frozen=True)
class Need:
    """Bytes that a job takes at most, in parts."""

    weights: int  # in float32, as they are computed with
    originals: int  # of what may be edited, as it lies on disk
    gradients: int  # of what may be edited
    activations: int  # an estimate

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.weights + self.originals + self.gradients + self.activations


def need(model: nn.Module, layers: Iterable[Layer], activations: int) -> Need:
    """What a job on a model takes of which these layers may be edited."""
    names = parameters_of(unit for layer in layers for unit in heads.units(layer))
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    edited = sum(sizes[name] for name in names)
    return Need(4 * sum(sizes.values()), 2 * edited, 4 * edited, activations)


def must_fit(size: str, need: Need) -> None:
    """Raises OutOfMemory, in words, where the machine has less free than is needed."""
    here = available_bytes()
    if need.bytes > here:
        raise OutOfMemory(
            f"{size} needs about {need.bytes / GIGABYTE:.0f} GB of memory (weights in float32 "
            f"{need.weights / GIGABYTE:.1f}, what was there before the edit "
            f"{need.originals / GIGABYTE:.1f}, gradients {need.gradients / GIGABYTE:.1f}, "
            f"activations {need.activations / GIGABYTE:.1f}) and {here / GIGABYTE:.1f} GB are free "
            "here; take a smaller size or a larger machine"
        )


def available_bytes() -> int:
    """Memory that programs can have without anything being pushed out."""
    for line in MEMORY.read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OutOfMemory("the system does not say how much memory is free")


def write(part: nn.Module, file: Path, rng: torch.Generator) -> None:
    """Weights of that architecture in float16."""
    from safetensors.torch import save_file

    drawn = {name: _drawn(name, p.shape, rng) for name, p in part.named_parameters()}
    save_file(drawn, file, metadata={"format": "pt"})


def _drawn(name: str, shape: torch.Size, rng: torch.Generator) -> Tensor:
    """Normal values that neither grow nor vanish through many layers; gains 1, offsets 0."""
    found = torch.empty(shape, dtype=torch.float16)
    if len(shape) < 2:
        gain = "norm" in name and name.endswith("weight")
        return found.fill_(1.0 if gain else 0.0)
    wide = shape[1:].numel() ** -0.5
    return found.normal_(0.0, WORDS if "embed" in name else wide, generator=rng)
