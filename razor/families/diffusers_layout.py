"""Loads a diffusers folder from disk: its parts, their transformer layers, and names on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.models.attention import BasicTransformerBlock, JointTransformerBlock
from torch import nn
from transformers.models.clip.modeling_clip import CLIPEncoderLayer
from transformers.models.t5.modeling_t5 import T5Block

from razor.errors import CheckpointInvalid
from razor.families.network import tensors_on_disk, whole
from razor.heads import Attention, Layer, plain_layer
from razor.protocols import Region

INDEX = "model_index.json"
#: Pipeline class -> the part that denoises.
DENOISERS = {
    "StableDiffusionPipeline": "unet",
    "StableDiffusionXLPipeline": "unet",
    "StableDiffusion3Pipeline": "transformer",
}
TEXT_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
#: What diffusers calls an attention of a block, and what we do.
ATTENTIONS = {
    BasicTransformerBlock: {"attn1": "self", "attn2": "cross"},
    JointTransformerBlock: {"attn": "joint", "attn2": "self"},
}
ROWS = {
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "added_q": "add_q_proj",
    "added_k": "add_k_proj",
    "added_v": "add_v_proj",
}
COLUMNS = {"out": "to_out.0", "added_out": "to_add_out"}
FEED_FORWARD = {
    "up": "ff.net.0.proj",
    "down": "ff.net.2",
    "added_up": "ff_context.net.0.proj",
    "added_down": "ff_context.net.2",
}
#: Of a layer of a CLIP text encoder, in the order of ``plain_layer``.
CLIP_PARTS = (
    *(f"self_attn.{part}" for part in ("q_proj", "k_proj", "v_proj", "out_proj")),
    *("mlp.fc1", "mlp.fc2"),
)


@dataclass(frozen=True)
class Pipeline:
    """A pipeline in parts. ``model`` holds those that may be edited, by the folder each lies in."""

    pipe: Any
    model: nn.ModuleDict
    denoiser: str
    layers: tuple[Layer, ...]
    on_disk: dict[str, tuple[str, str]]  # parameter -> (file inside the folder, tensor)


def load(folder: Path) -> Pipeline:
    """The pipeline in float32 on the CPU. Raises CheckpointInvalid.

    Only safetensors are read, only classes named here are made, and every weight that a unit holds
    must lie on disk under its name and with its shape.
    """
    kind, absent = _index(folder)
    try:
        made: Any = getattr(diffusers, kind)
        with _without_bars():
            pipe = made.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                low_cpu_mem_usage=False,
                dtype=torch.float32,
                **dict.fromkeys(absent),
            )
    except (ValueError, OSError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointInvalid(
            "diffusers cannot load the pipeline folder; check that every part named in "
            f"{INDEX} is there with its config and safetensors weights"
        ) from error
    pipe.set_progress_bar_config(disable=True)
    names = [*(n for n in TEXT_ENCODERS if getattr(pipe, n, None) is not None), DENOISERS[kind]]
    model = nn.ModuleDict({name: getattr(pipe, name) for name in names})
    model.eval().requires_grad_(False)
    pipe.vae.eval().requires_grad_(False)
    layers = tuple(layer for name in names for layer in layers_of(name, model[name]))
    return Pipeline(pipe, model, DENOISERS[kind], layers, _on_disk(folder, model, layers))


@contextmanager
def _without_bars() -> Iterator[None]:
    """No progress bars of both libraries in a worker's log."""
    kinds: tuple[Any, ...] = diffusers.utils.logging, transformers.utils.logging
    for kind in kinds:
        kind.disable_progress_bar()
    try:
        yield
    finally:
        for kind in kinds:
            kind.enable_progress_bar()


def layers_of(tower: str, model: nn.Module) -> list[Layer]:
    """The transformer layers of one part, in the order in which they run.

    Parameters are named as in the pipeline's ``ModuleDict``: by the part first.
    """
    found: list[Layer] = []
    for path, block in model.named_modules():
        at = f"{tower}.{path}"
        if isinstance(block, BasicTransformerBlock | JointTransformerBlock):
            found.append(_painting(tower, len(found), at, block))
        elif isinstance(block, CLIPEncoderLayer):
            regions = (_linear(at, block, part) for part in CLIP_PARTS)
            found.append(plain_layer(tower, len(found), block.self_attn.num_heads, *regions))
        elif isinstance(block, T5Block):
            found.append(_t5(tower, len(found), at, block))
    return found


def _index(folder: Path) -> tuple[str, list[str]]:
    """The pipeline's class and the parts that it was saved without."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        kind, absent = index["_class_name"], [k for k, v in index.items() if v == [None, None]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointInvalid(
            f"the folder has no readable {INDEX}; give the folder of a diffusers pipeline"
        ) from error
    if kind not in DENOISERS:
        raise CheckpointInvalid(
            f"a pipeline of this class cannot be edited; use one of {', '.join(DENOISERS)}"
        )
    return str(kind), absent


def _painting(tower: str, index: int, at: str, block: Any) -> Layer:
    """A block of a U-Net (self- and cross-attention) or of an MMDiT (joint attention)."""
    attentions = []
    for theirs, name in ATTENTIONS[type(block)].items():
        module = getattr(block, theirs, None)
        if module is None:
            continue
        rows = dict(_present(f"{at}.{theirs}", module, ROWS))
        columns = dict(_present(f"{at}.{theirs}", module, COLUMNS))
        if "added_out" not in columns:
            # The last block hands no text on: what its text tokens ask is never heard.
            rows.pop("added_q", None)
        attentions.append(Attention(int(module.heads), rows, columns, name))
    return Layer(tower, index, tuple(attentions), dict(_present(at, block, FEED_FORWARD)))


def _t5(tower: str, index: int, at: str, block: Any) -> Layer:
    attention, forward = "layer.0.SelfAttention", "layer.1.DenseReluDense"
    rows = {part: _linear(at, block, f"{attention}.{part}") for part in ("q", "k", "v")}
    columns = {"out": _linear(at, block, f"{attention}.o")}
    heads = int(block.layer[0].SelfAttention.n_heads)
    names = {"up": f"{forward}.wi", "gate": f"{forward}.wi_0"}
    names |= {"gated_up": f"{forward}.wi_1", "down": f"{forward}.wo"}
    return Layer(tower, index, (Attention(heads, rows, columns),), dict(_present(at, block, names)))


def _present(at: str, block: nn.Module, names: dict[str, str]) -> Iterator[tuple[str, Region]]:
    """Our name and the place of each of these linear layers that the block has."""
    modules = dict(block.named_modules())
    for ours, theirs in names.items():
        if isinstance(modules.get(theirs), nn.Linear):
            yield ours, _linear(at, block, theirs)


def _linear(at: str, block: nn.Module, part: str) -> Region:
    return whole(f"{at}.{part}.weight", block.get_parameter(f"{part}.weight"))


def _on_disk(
    folder: Path, model: nn.ModuleDict, layers: tuple[Layer, ...]
) -> dict[str, tuple[str, str]]:
    """Where every editable parameter lies. Raises CheckpointInvalid where one does not."""
    parameters = dict(model.named_parameters())
    stored = {part: tensors_on_disk(folder / part) for part in model}
    found = {}
    for layer in layers:
        regions = [*layer.others.values()]
        for attention in layer.attentions:
            regions += [*attention.rows.values(), *attention.columns.values()]
        for region in regions:
            part, tensor = region.parameter.split(".", 1)
            file, entry = stored[part].get(tensor, ("", None))
            shape = tuple(parameters[region.parameter].shape)
            if entry is None or tuple(entry.shape) != shape:
                raise CheckpointInvalid(
                    f"{tensor} is not on disk with shape {shape} in {part}; save the pipeline "
                    "again with the installed diffusers"
                )
            found[region.parameter] = (f"{part}/{file}", tensor)
    return found
