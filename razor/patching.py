"""Snapshot, compare, round, restore: the one place that knows what an edit changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from razor.errors import EditDiverged
from razor.gradients import parameters_of
from razor.protocols import Region, Unit

#: safetensors names of the types that a checkpoint may store weights in.
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}


@dataclass(frozen=True)
class Change:
    """One parameter that changed: its checkpoint bytes before and after, and where it changed."""

    parameter: str
    dtype: str
    shape: tuple[int, ...]
    before: bytes
    after: bytes
    regions: tuple[Region, ...]  # disjoint; together they hold every changed value
    parts: tuple[bytes, ...]  # one per region, the new values
    changed: int  # number of values that differ


class Snapshot:
    """One host copy of the editable parameters, and the way back to it.

    A parameter that the checkpoint's type holds without loss is kept in that type: beside a model
    in float32 from a checkpoint in half precision the copy takes half as much memory.
    """

    def __init__(self, model: nn.Module, units: Sequence[Unit], dtypes: Mapping[str, str]) -> None:
        names = parameters_of(units)
        self._parameters = {n: p for n, p in model.named_parameters() if n in set(names)}
        self._dtypes = dict(dtypes)
        self._before = {n: _copy(p, dtypes.get(n)) for n, p in self._parameters.items()}
        self._regions = {name: _finest(units, name) for name in names}

    def weights(self) -> dict[str, Tensor]:
        """The parameters as they were, on the host."""
        return {name: self._was(name) for name in self._before}

    def size(self) -> int:
        """Number of editable values."""
        return sum(tensor.numel() for tensor in self._before.values())

    @torch.no_grad()
    def round_to_checkpoint(self) -> None:
        """Rounds changed parameters to the checkpoint's type: what is measured is what ships.

        Raises EditDiverged where a value is not finite.
        """
        for name, parameter in self._parameters.items():
            if torch.equal(parameter.cpu(), self._was(name)):
                continue
            rounded = parameter.to(DTYPES[self._dtypes[name]]).to(parameter.dtype)
            if not bool(torch.isfinite(rounded).all()):
                raise EditDiverged
            parameter.copy_(rounded)

    @torch.no_grad()
    def restore(self) -> None:
        """Puts every bit back. Idempotent."""
        for name, parameter in self._parameters.items():
            before = self._was(name)
            if not torch.equal(parameter.cpu(), before):
                parameter.copy_(before)

    def changes(self) -> list[Change]:
        """What differs from the snapshot, in the checkpoint's type, by parameter name."""
        found = []
        for name in sorted(self._parameters):
            dtype = DTYPES[self._dtypes[name]]
            before = self._before[name].to(dtype)
            after = self._parameters[name].detach().cpu().to(dtype)
            differs = before != after
            if not bool(differs.any()):
                continue
            touched = [r for r in self._regions[name] if bool(r.of(differs).any())]
            regions = _joined(touched, self._regions[name], name, tuple(after.shape))
            found.append(
                Change(
                    parameter=name,
                    dtype=self._dtypes[name],
                    shape=tuple(after.shape),
                    before=tensor_bytes(before),
                    after=tensor_bytes(after),
                    regions=regions,
                    parts=tuple(tensor_bytes(region.of(after)) for region in regions),
                    changed=int(differs.sum()),
                )
            )
        return found

    def step_ratio(self, unit: Unit) -> float:
        """|change| / |weights| of a unit as the model stands now."""
        moved = sum(
            float(
                (r.of(self._parameters[r.parameter]).cpu() - r.of(self._before[r.parameter]))
                .double()
                .square()
                .sum()
            )
            for r in unit.regions
        )
        norm = sum(
            float(r.of(self._before[r.parameter]).double().square().sum()) for r in unit.regions
        )
        return (moved / norm) ** 0.5 if norm else 0.0

    def _was(self, name: str) -> Tensor:
        """The parameter as it was, in its own type."""
        return self._before[name].to(self._parameters[name].dtype)


def _copy(parameter: Tensor, stored: str | None) -> Tensor:
    """The values on the host, in the type that they are stored in where that loses nothing."""
    values = parameter.detach()
    dtype = DTYPES[stored] if stored else values.dtype
    if dtype.itemsize < values.dtype.itemsize:
        small = values.to(dtype)
        if torch.equal(small.to(values.dtype), values):
            return small.cpu()
    return values.to("cpu", copy=True)


def tensor_bytes(tensor: Tensor) -> bytes:
    """The values as they stand in a safetensors file: row-major, little-endian."""
    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _finest(units: Sequence[Unit], parameter: str) -> tuple[Region, ...]:
    """The smallest regions that units cut a parameter into; they do not overlap."""
    regions = {r for unit in units for r in unit.regions if r.parameter == parameter}
    finest: list[Region] = []
    for region in sorted(regions, key=lambda r: (r.size(), r.ranges)):
        if not any(region.overlaps(other) for other in finest):
            finest.append(region)
    return tuple(sorted(finest, key=lambda r: r.ranges))


def _joined(
    touched: Sequence[Region], every: Sequence[Region], name: str, shape: tuple[int, ...]
) -> tuple[Region, ...]:
    """One whole region where all parts changed, else the parts that did."""
    if len(touched) == len(every):
        return (Region(name, tuple((0, length) for length in shape)),)
    return tuple(touched)
