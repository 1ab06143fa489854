"""Loads an open_clip folder: ``open_clip_config.json`` and ``*.safetensors``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import open_clip
import torch.nn.functional as F
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
from razor.families.packed import Packing, Parts, Step, TextTower
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
    blocks = {tower: tuple(_blocks(model, tower)) for tower in ("image", "text")}
    layers = tuple(_layers(model, blocks))
    if not layers:
        raise CheckpointInvalid("the model has no transformer layer that could be edited")
    names = [name for name, _ in model.named_parameters()]
    packing = Packing()
    text = _text_tower(model, packing)

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
        blocks=blocks if text is None else blocks | {"text": text.steps},
        encode_images=model.encode_image,
        encode_tokens=text or model.encode_text,
        tokenize=tokenize,
        logit_scale=model.logit_scale,
        sizing=_sizing(model, config.get("preprocess_cfg", {})),
        packing=packing,
    )


def _text_tower(model: Any, packing: Packing) -> TextTower | None:
    """What the model's ``encode_text`` computes, for texts whose beginnings are shared.

    Of open_clip's plain text tower only: None for others, whose blocks may do something else.
    """
    pools: dict[str, Callable[[Tensor], Tensor]] = {
        "argmax": lambda tokens: tokens.argmax(dim=-1),
        "eos": lambda tokens: (tokens == model.text_eos_id).int().argmax(dim=-1),
    }
    causal = isinstance(model, open_clip.CLIP) and model.attn_mask is not None
    if not causal or model.text_pool_type not in pools:
        return None
    blocks = tuple(model.transformer.resblocks)
    if any(type(block) is not ResidualAttentionBlock for block in blocks):
        return None

    def embed(tokens: Tensor, positions: Tensor) -> Tensor:
        found: Tensor = model.token_embedding(tokens) + model.positional_embedding[positions]
        return found

    def features(hidden: Tensor) -> Tensor:
        read, project = model.ln_final(hidden), model.text_projection
        if project is None:
            return cast(Tensor, read)
        return cast(Tensor, project(read) if isinstance(project, nn.Linear) else read @ project)

    steps = tuple(Step(block, _parts(block)) for block in blocks)
    return TextTower(steps, pools[model.text_pool_type], embed, features, packing)


def _parts(block: Any) -> Parts:
    attention = block.attn
    width = attention.embed_dim

    def query(normed: Tensor) -> Tensor:
        return F.linear(normed, attention.in_proj_weight[:width], attention.in_proj_bias[:width])

    def key_value(normed: Tensor) -> tuple[Tensor, Tensor]:
        weight, bias = attention.in_proj_weight[width:], attention.in_proj_bias[width:]
        key, value = F.linear(normed, weight, bias).chunk(2, dim=-1)
        return key, value

    def rest(hidden: Tensor, mixed: Tensor) -> Tensor:
        hidden = hidden + block.ls_1(attention.out_proj(mixed))
        found: Tensor = hidden + block.ls_2(block.mlp(block.ln_2(hidden)))
        return found

    return Parts(attention.num_heads, block.ln_1, query, key_value, rest)


def _blocks(model: nn.Module, tower: str) -> Iterator[Any]:
    """The transformer blocks of a tower that can be edited, in order."""
    for name, block in model.named_modules():
        if not isinstance(block, ResidualAttentionBlock | CustomResidualAttentionBlock):
            continue
        fused = getattr(block.attn, "in_proj_weight", None) is not None
        if fused and name.startswith("visual.") == (tower == "image"):
            yield block


def _layers(model: nn.Module, blocks: Mapping[str, Sequence[Any]]) -> list[Layer]:
    parameters = dict(model.named_parameters())
    names = {id(module): name for name, module in model.named_modules()}
    layers = []
    for tower, of_tower in blocks.items():
        for number, block in enumerate(of_tower):
            start = names[id(block)]
            fused = f"{start}.attn.in_proj_weight"
            query, key, value = thirds(fused, parameters[fused])
            out, up, down = (
                whole(part, parameters[part])
                for part in (
                    f"{start}.attn.out_proj.weight",
                    f"{start}.mlp.c_fc.weight",
                    f"{start}.mlp.c_proj.weight",
                )
            )
            count = int(block.attn.num_heads)
            layers.append(plain_layer(tower, number, count, query, key, value, out, up, down))
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
