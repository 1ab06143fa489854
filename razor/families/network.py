"""A two-tower network as the CLIP family sees it, whichever library it comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from patches import container
from patches.errors import MalformedContainer
from razor.errors import CheckpointInvalid
from razor.families.packed import Packing
from razor.heads import Layer
from razor.pictures import Sizing
from razor.protocols import Region

#: CLIP's own channel statistics (arXiv 2103.00020, released code), for records that name none.
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Network:
    """What a loader hands over. Both encoders return raw features, (n, d), not unit length."""

    model: nn.Module
    layers: tuple[Layer, ...]
    towers: dict[str, tuple[str, ...]]  # tower -> every parameter that its features depend on
    blocks: dict[str, tuple[nn.Module, ...]]  # tower -> what its encoder runs, layer by layer
    encode_images: Callable[[Tensor], Tensor]
    encode_tokens: Callable[[Tensor], Tensor]
    tokenize: Callable[[Sequence[str]], Tensor]
    logit_scale: nn.Parameter
    sizing: Sizing
    packing: Packing = field(default_factory=Packing)  # of ``encode_tokens``


def whole(name: str, parameter: nn.Parameter) -> Region:
    """All of a parameter."""
    return Region(name, tuple((0, length) for length in parameter.shape))


def thirds(name: str, parameter: nn.Parameter) -> tuple[Region, Region, Region]:
    """The q, k and v blocks of a fused in-projection of shape (3 * width, width)."""
    rows, columns = parameter.shape
    width = rows // 3
    q, k, v = (Region(name, ((i * width, (i + 1) * width), (0, columns))) for i in range(3))
    return q, k, v


def weight_files(folder: Path) -> list[Path]:
    """The folder's safetensors files, sorted. Raises CheckpointInvalid where there is none.

    Pickled checkpoints are never opened: loading one runs whatever code it holds.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise CheckpointInvalid(
            "the checkpoint folder holds no .safetensors file; convert the weights to safetensors"
        )
    return files


def tensors_on_disk(folder: Path) -> dict[str, tuple[str, container.Entry]]:
    """Every tensor of the folder's weight files: name -> (file name, its header entry).

    Raises CheckpointInvalid for a damaged file.
    """
    found: dict[str, tuple[str, container.Entry]] = {}
    for file in weight_files(folder):
        try:
            entries = container.read_header(file).entries
        except MalformedContainer as error:
            raise CheckpointInvalid(str(error)) from error
        for name, entry in entries.items():
            found.setdefault(name, (file.name, entry))
    return found


def triple(value: object, default: tuple[float, float, float]) -> tuple[float, float, float]:
    """Three numbers out of a configuration file, or the default where it has none."""
    if isinstance(value, list | tuple) and len(value) == 3:
        return (float(value[0]), float(value[1]), float(value[2]))
    return default
