"""Loads a Hugging Face ``CLIPModel`` folder: ``config.json``, tokenizer, ``*.safetensors``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, CLIPModel

from razor.errors import CheckpointInvalid
from razor.families.network import (
    OPENAI_MEAN,
    OPENAI_STD,
    Network,
    triple,
    weight_files,
    whole,
)
from razor.families.packed import Packing, Parts, Step, TextTower
from razor.heads import Layer, plain_layer
from razor.pictures import Sizing

CONFIG = "config.json"


def load(folder: Path) -> Network:
    """The network in float32 on the CPU, evaluation mode. Raises CheckpointInvalid."""
    weight_files(folder)
    try:
        model: Any = CLIPModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (ValueError, OSError, RuntimeError, KeyError, TypeError) as error:
        raise CheckpointInvalid(
            "transformers cannot load the checkpoint folder; it needs config, tokenizer and weights"
        ) from error
    model.eval()
    length = int(model.config.text_config.max_position_embeddings)
    names = [name for name, _ in model.named_parameters()]

    def tokenize(texts: Sequence[str]) -> Tensor:
        tokens: Tensor = tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=length,
            return_tensors="pt",
        ).input_ids
        return tokens

    def encode_images(pixels: Tensor) -> Tensor:
        pooled = model.vision_model(pixel_values=pixels).pooler_output
        features: Tensor = model.visual_projection(pooled)
        return features

    packing = Packing()
    text = _text_tower(model, packing)
    return Network(
        model=model,
        layers=tuple(_layers(model)),
        towers={
            "image": tuple(n for n in names if n.startswith(("vision_model.", "visual_proj"))),
            "text": tuple(n for n in names if n.startswith("text_")),
        },
        blocks={
            "image": tuple(model.vision_model.encoder.layers),
            "text": text.steps,
        },
        encode_images=encode_images,
        encode_tokens=text,
        tokenize=tokenize,
        logit_scale=model.logit_scale,
        sizing=_sizing(folder, int(model.config.vision_config.image_size)),
        packing=packing,
    )


def _text_tower(model: Any, packing: Packing) -> TextTower:
    """What the model's ``get_text_features`` computes, for texts whose beginnings are shared."""
    text, end = model.text_model, int(model.config.text_config.eos_token_id)

    def last(tokens: Tensor) -> Tensor:
        # The place that the model pools at: with the id of old configurations, the largest token.
        return tokens.argmax(dim=-1) if end == 2 else (tokens == end).int().argmax(dim=-1)

    def embed(tokens: Tensor, positions: Tensor) -> Tensor:
        found: Tensor = text.embeddings(tokens[:, None], position_ids=positions[:, None])
        return found.squeeze(1)

    def features(hidden: Tensor) -> Tensor:
        found: Tensor = model.text_projection(text.final_layer_norm(hidden))
        return found

    steps = tuple(Step(block, _parts(block)) for block in text.encoder.layers)
    return TextTower(steps, last, embed, features, packing)


def _parts(block: Any) -> Parts:
    attention = block.self_attn

    def key_value(normed: Tensor) -> tuple[Tensor, Tensor]:
        return attention.k_proj(normed), attention.v_proj(normed)

    def rest(hidden: Tensor, mixed: Tensor) -> Tensor:
        hidden = hidden + attention.out_proj(mixed)
        found: Tensor = hidden + block.mlp(block.layer_norm2(hidden))
        return found

    return Parts(attention.num_heads, block.layer_norm1, attention.q_proj, key_value, rest)


def _layers(model: Any) -> list[Layer]:
    parameters = dict(model.named_parameters())
    layers = []
    for tower, prefix, config in (
        ("image", "vision_model", model.config.vision_config),
        ("text", "text_model", model.config.text_config),
    ):
        for index in range(config.num_hidden_layers):
            start = f"{prefix}.encoder.layers.{index}"
            regions = {
                part: whole(f"{start}.{part}.weight", parameters[f"{start}.{part}.weight"])
                for part in (
                    "self_attn.q_proj",
                    "self_attn.k_proj",
                    "self_attn.v_proj",
                    "self_attn.out_proj",
                    "mlp.fc1",
                    "mlp.fc2",
                )
            }
            layers.append(plain_layer(tower, index, config.num_attention_heads, *regions.values()))
    return layers


def _sizing(folder: Path, size: int) -> Sizing:
    file = folder / "preprocessor_config.json"
    settings = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return Sizing(
        size=size,
        mean=triple(settings.get("image_mean"), OPENAI_MEAN),
        std=triple(settings.get("image_std"), OPENAI_STD),
        bicubic=settings.get("resample", 3) == 3,
    )
