"""Loads a vision-language folder of transformers and finds what may be edited, and where it lies.

What tells architectures apart are the names of a layer's linear parts: they are data here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import safetensors
import torch
import transformers
from torch import Tensor, nn

from razor.errors import CheckpointInvalid
from razor.families.network import tensors_on_disk, thirds, whole
from razor.heads import Attention, Layer
from razor.protocols import Region

# The library's classes come without types.
LIBRARY: Any = transformers
CONFIG = "config.json"
#: ``model_type`` -> the class in transformers; anything else is refused.
ARCHITECTURES: Mapping[str, str] = {
    "llava": "LlavaForConditionalGeneration",
    "llava_next": "LlavaNextForConditionalGeneration",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
}
#: Tower -> what a module's path holds when it belongs to it; the first that fits.
TOWERS: Mapping[str, tuple[str, ...]] = {
    "projector": ("multi_modal_projector", "visual.merger"),
    "image": ("vision_tower", "visual"),
    "language": ("language_model",),
}
#: Our name -> theirs, inside a layer's attention.
ROWS = {"q": "q_proj", "k": "k_proj", "v": "v_proj"}
FUSED, OUT = "qkv", ("out_proj", "o_proj", "proj")
ATTENTION = ("self_attn", "attn")
FEED_FORWARD = {
    "up": ("mlp.fc1", "mlp.up_proj"),
    "gate": ("mlp.gate_proj",),
    "down": ("mlp.fc2", "mlp.down_proj"),
}


@dataclass(frozen=True)
class Talker:
    """What a loader hands over: weights in float32 on the CPU, evaluation mode, no gradients."""

    model: Any
    processor: Any
    layers: tuple[Layer, ...]
    on_disk: Mapping[str, tuple[str, str]]  # parameter -> file, tensor in it


def load(folder: Path) -> Talker:
    """The model of a folder. Raises CheckpointInvalid."""
    kind = _architecture(folder)
    stored = tensors_on_disk(folder)
    try:
        model: Any = getattr(LIBRARY, ARCHITECTURES[kind]).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
        processor: Any = LIBRARY.AutoProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (ValueError, OSError, RuntimeError, KeyError, TypeError, ImportError) as error:
        raise CheckpointInvalid(
            "transformers cannot load the checkpoint folder; it needs config, processor and weights"
        ) from error
    if getattr(processor, "image_processor", None) is None:
        raise CheckpointInvalid("the folder has no image processor; save the model's processor")
    if getattr(processor, "chat_template", None) is None:
        raise CheckpointInvalid(
            "the folder has no chat template; put the model's chat_template.jinja into it"
        )
    model.eval().requires_grad_(False)
    layers = tuple(layers_of(model))
    return Talker(model, processor, layers, _on_disk(folder, stored, model, layers))


def layers_of(model: Any) -> list[Layer]:
    """Layers tower by tower, without those that nothing listens to.

    A projector is one layer without attention.
    """
    found: dict[str, list[Layer]] = {tower: [] for tower in TOWERS}
    for path, block in model.named_modules():
        tower = _tower(path)
        if tower is None:
            continue
        attention = next((part for part in ATTENTION if hasattr(block, part)), None)
        others = dict(_linears(path, block, FEED_FORWARD))
        if attention is not None and others:
            heard = _attention(f"{path}.{attention}", getattr(block, attention))
            found[tower].append(Layer(tower, len(found[tower]), (heard,), others))
    if merged := _projector(model):
        found["projector"].append(Layer("projector", 0, (), merged))
    found["image"] = found["image"][: _heard(model, len(found["image"]))]
    return [layer for tower in ("image", "projector", "language") for layer in found[tower]]


def _heard(model: Any, layers: int) -> int:
    """How many layers of the vision tower the projector gets to hear of: LLaVA skips the last."""
    read = getattr(model.config, "vision_feature_layer", None)
    if read is None:
        return layers
    states = [read] if isinstance(read, int) else list(read)
    return max(state if state >= 0 else layers + 1 + state for state in states)


def _attention(path: str, module: Any) -> Attention:
    """Heads, or groups of them that share keys and values: those move together."""
    fused = getattr(module, FUSED, None)
    if fused is not None:
        name = f"{path}.{FUSED}.weight"
        q, k, v = thirds(name, fused.weight)
        rows, heads = {"q": q, "k": k, "v": v}, int(module.num_heads)
    else:
        rows = {
            ours: whole(f"{path}.{theirs}.weight", module.get_parameter(f"{theirs}.weight"))
            for ours, theirs in ROWS.items()
        }
        heads = module.k_proj.weight.shape[0] // int(module.head_dim)
    out = next(name for name in OUT if hasattr(module, name))
    columns = {"out": whole(f"{path}.{out}.weight", module.get_parameter(f"{out}.weight"))}
    return Attention(heads, rows, columns)


def _projector(model: Any) -> dict[str, Region]:
    found: dict[str, Region] = {}
    for path, module in model.named_modules():
        if _tower(path) == "projector" and isinstance(module, nn.Linear):
            found[f"linear{len(found)}"] = whole(f"{path}.weight", module.get_parameter("weight"))
    return found


def _linears(
    path: str, block: nn.Module, names: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, Region]]:
    modules = dict(block.named_modules())
    for ours, candidates in names.items():
        for theirs in candidates:
            linear = modules.get(theirs)
            if isinstance(linear, nn.Linear):
                yield ours, whole(f"{path}.{theirs}.weight", linear.get_parameter("weight"))


def _tower(path: str) -> str | None:
    for tower, parts in TOWERS.items():
        if any(f".{part}." in f".{path}." for part in parts):
            return tower
    return None


def _architecture(folder: Path) -> str:
    try:
        kind = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointInvalid(
            f"the folder has no readable {CONFIG}; give the folder of a transformers model"
        ) from error
    if kind not in ARCHITECTURES:
        raise CheckpointInvalid(
            f"a model of this type cannot be edited; use one of {', '.join(ARCHITECTURES)}"
        )
    return str(kind)


def _on_disk(
    folder: Path, stored: Mapping[str, tuple[str, Any]], model: nn.Module, layers: Sequence[Layer]
) -> dict[str, tuple[str, str]]:
    """Where every editable parameter lies, found by its values.

    The library renames tensors as it loads them, differently from release to release. Equal bits
    prove a place; equal ends of the names only say where to look first. Raises CheckpointInvalid.
    """
    parameters = dict(model.named_parameters())
    wanted = sorted({r.parameter for layer in layers for r in _regions(layer)})
    found: dict[str, tuple[str, str]] = {}
    taken: set[str] = set()
    for name in wanted:
        parameter = parameters[name]
        candidates = [
            tensor
            for tensor, (_, entry) in stored.items()
            if tuple(entry.shape) == tuple(parameter.shape) and tensor not in taken
        ]
        candidates.sort(key=lambda tensor: (-_common_end(tensor, name), tensor))
        place = next((t for t in candidates if _holds(folder / stored[t][0], t, parameter)), None)
        if place is None:
            raise CheckpointInvalid(
                f"{name} is nowhere in the folder as it was loaded; save the model again with the "
                "installed transformers"
            )
        taken.add(place)
        found[name] = (stored[place][0], place)
    return found


def _holds(file: Path, tensor: str, parameter: Tensor) -> bool:
    with safetensors.safe_open(file, framework="pt") as opened:
        return torch.equal(opened.get_tensor(tensor).to(parameter.dtype), parameter)


def _common_end(one: str, other: str) -> int:
    same = takewhile(lambda pair: pair[0] == pair[1], zip(one[::-1], other[::-1], strict=False))
    return sum(1 for _ in same)


def _regions(layer: Layer) -> Iterator[Region]:
    yield from layer.others.values()
    for attention in layer.attentions:
        yield from attention.rows.values()
        yield from attention.columns.values()
