"""A patch on linear layers as a low-rank adapter that diffusers loads.

What a patch changes in a matrix, W' - W, is not of low rank. Its best approximation of rank r
keeps the r largest singular values (Eckart and Young 1936); what is left out is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from api_schemas.patches import TensorEntry
from patches import container
from patches.digests import tensor_digest
from patches.folder import by_tensor, check_patch, read_patch
from razor.errors import ExportImpossible
from razor.families import diffusers_layout

#: The name under which diffusers looks for an adapter in a folder.
FILE_NAME = "pytorch_lora_weights.safetensors"


@dataclass(frozen=True)
class Truncated:
    """One matrix of the adapter: its rank, and |what was left out| / |change|."""

    tensor: str
    rank: int
    error: float


@dataclass(frozen=True)
class Adapter:
    """What was written, and how far it is from the patch."""

    file: Path
    matrices: tuple[Truncated, ...]
    error: float  # over all matrices together


def export(patch: Path, checkpoint: Path, out: Path, rank: int) -> Adapter:
    """Writes the adapter into the new folder ``out``, for the pipeline in ``checkpoint``.

    Raises ExportImpossible where the patch edits anything but linear layers of the pipeline or
    was made for other weights; CheckpointInvalid, and what reading a patch raises.
    """
    if out.exists():
        raise ExportImpossible(f"{out} is already there; choose another folder")
    found = read_patch(patch)
    check_patch(found)
    pipeline = diffusers_layout.load(checkpoint)
    parameters = dict(pipeline.model.named_parameters())
    names = {place: name for name, place in pipeline.on_disk.items()}
    values = safetensors.torch.load_file(found.file)
    adapter: dict[str, Tensor] = {}
    matrices: list[Truncated] = []
    lost = whole = 0.0
    for (file, tensor), entries in by_tensor(found.manifest.tensors).items():
        name = names.get((file, tensor))
        if name is None:
            raise ExportImpossible(
                f"{tensor} in {file} is no linear layer of this pipeline; use razor apply"
            )
        _check_base(checkpoint / file, tensor, entries[0])
        change = _change(parameters[name], entries, values)
        down, up, error = factors(change, rank)
        module = name.removesuffix(".weight")
        adapter[f"{module}.lora_A.weight"], adapter[f"{module}.lora_B.weight"] = down, up
        matrices.append(Truncated(tensor, down.shape[0], error))
        lost += (error * float(change.norm())) ** 2
        whole += float(change.norm()) ** 2
    out.mkdir(parents=True)
    safetensors.torch.save_file(adapter, out / FILE_NAME, {"format": "pt"})
    return Adapter(out / FILE_NAME, tuple(matrices), (lost / whole) ** 0.5 if whole else 0.0)


def factors(
    change: Tensor,  # (out, in)
    rank: int,
) -> tuple[Tensor, Tensor, float]:
    """A (r, in) and B (out, r) with B A nearest to the change, and the relative error of that."""
    left, sizes, right = torch.linalg.svd(change.double(), full_matrices=False)
    kept = min(rank, len(sizes))
    root = sizes[:kept].sqrt()
    down, up = root[:, None] * right[:kept], left[:, :kept] * root
    whole = float(sizes.square().sum())
    lost = float(sizes[kept:].square().sum())
    return (
        down.float().contiguous(),
        up.float().contiguous(),
        (lost / whole) ** 0.5 if whole else 0.0,
    )


def _check_base(file: Path, tensor: str, entry: TensorEntry) -> None:
    header = container.read_header(file)
    if tensor_digest(file, header, header.entries[tensor]) != entry.sha256_before:
        raise ExportImpossible(
            f"{tensor} is not what the patch was made for; give the unpatched pipeline"
        )


def _change(base: Tensor, entries: Sequence[TensorEntry], values: dict[str, Tensor]) -> Tensor:
    after = base.detach().clone()
    for entry in entries:
        part = tuple(slice(a, b) for a, b in entry.slice) if entry.slice else ...
        after[part] = values[entry.key].to(after.dtype)
    return after - base
