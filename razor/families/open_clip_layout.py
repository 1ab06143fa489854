"""Loads an open_clip folder: ``open_clip_config.json`` and ``*.safetensors``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import open_clip
from open_clip.transformer import CustomResidualAttentionBlock, ResidualAttentionBlock
from torch import Tensor, nn

from razor.errors import CheckpointInvalid
from razor.families.network import (
    OPENAI_MEAN,
    OPENAI_STD,
    Network,
    thirds,
    triple,
    weight_files,
    whole,
)
from razor.heads import Layer, plain_layer
from razor.pictures import Sizing

CONFIG = "open_clip_config.json"


def load(folder: Path) -> Network:
    """The network in float32 on the CPU, evaluation mode. Raises CheckpointInvalid."""
    files = weight_files(folder)
    if len(files) != 1:
        raise CheckpointInvalid("an open_clip folder holds exactly one .safetensors file")
    source = f"local-dir:{folder}"
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        model = open_clip.create_model(source, precision="fp32", require_pretrained=True)
        tokenizer = open_clip.get_tokenizer(source)
    except (ValueError, OSError, RuntimeError, KeyError, TypeError) as error:
        raise CheckpointInvalid(
            "open_clip cannot load the checkpoint folder; check that its config fits its weights"
        ) from error
    model = model.float().eval()
    layers = tuple(_layers(model))
    if not layers:
        raise CheckpointInvalid("the model has no transformer layer that could be edited")
    names = [name for name, _ in model.named_parameters()]

    def tokenize(texts: Sequence[str]) -> Tensor:
        tokens: Tensor = tokenizer(list(texts))
        return tokens

    return Network(
        model=model,
        layers=layers,
        towers={
            "image": tuple(name for name in names if name.startswith("visual.")),
            "text": tuple(
                n for n in names if not n.startswith(("visual.", "logit_scale", "logit_bias"))
            ),
        },
        encode_images=model.encode_image,
        encode_tokens=model.encode_text,
        tokenize=tokenize,
        logit_scale=model.logit_scale,
        sizing=_sizing(model, config.get("preprocess_cfg", {})),
    )


def _layers(model: nn.Module) -> list[Layer]:
    parameters = dict(model.named_parameters())
    counts = {"image": 0, "text": 0}
    layers = []
    for name, block in model.named_modules():
        if not isinstance(block, ResidualAttentionBlock | CustomResidualAttentionBlock):
            continue
        fused = f"{name}.attn.in_proj_weight"
        if fused not in parameters:
            continue
        tower = "image" if name.startswith("visual.") else "text"
        query, key, value = thirds(fused, parameters[fused])
        out, up, down = (
            whole(part, parameters[part])
            for part in (
                f"{name}.attn.out_proj.weight",
                f"{name}.mlp.c_fc.weight",
                f"{name}.mlp.c_proj.weight",
            )
        )
        heads = int(block.attn.num_heads)
        layers.append(plain_layer(tower, counts[tower], heads, query, key, value, out, up, down))
        counts[tower] += 1
    return layers


def _sizing(model: nn.Module, written: dict[str, object]) -> Sizing:
    settings: dict[str, object] = dict(getattr(model.visual, "preprocess_cfg", {}) or {})
    settings.update(written)
    size = settings.get("size", getattr(model.visual, "image_size", 224))
    side = int(min(size)) if isinstance(size, list | tuple) else int(str(size))
    return Sizing(
        size=side,
        mean=triple(settings.get("mean"), OPENAI_MEAN),
        std=triple(settings.get("std"), OPENAI_STD),
        bicubic=settings.get("interpolation", "bicubic") != "bilinear",
    )
