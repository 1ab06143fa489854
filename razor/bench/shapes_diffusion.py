"""Pipeline folders in the shapes of Stable Diffusion, as their own configurations have them.

Tokenizer and scheduler are those of the shipped pipelines: words are few, prompts as long as ever.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import diffusers
import torch
from torch import nn

from razor.bench import painters, random_weights
from razor.bench.shapes import whole
from razor.families import diffusers_layout

#: The library's classes come without types.
LIBRARY: Any = diffusers
Parts = dict[str, nn.Module]

#: Tokens of a prompt (every CLIP text encoder's).
PROMPT: Final = 77
#: Of both pipelines, but for the latents.
AUTOENCODER: Final[Mapping[str, Any]] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
#: stable-diffusion-v1-5's U-Net.
UNET: Final[Mapping[str, Any]] = {
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 2,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
    "cross_attention_dim": 768,
    "attention_head_dim": 8,  # heads, as that configuration calls them
}
#: stable-diffusion-3-medium's denoiser.
MMDIT: Final[Mapping[str, Any]] = {
    "sample_size": 128,
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 24,
    "num_attention_heads": 24,
    "attention_head_dim": 64,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 1536,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 192,
}


@dataclass(frozen=True)
class Shape:
    """A pipeline: its parts, whose words and scheduler it takes, and what activations take."""

    make: Callable[[], Parts]
    like: str  # shipped pipeline
    activation_bytes: int  # an estimate, of the batches that the benchmark shows it
    side: int  # of its pictures, in pixels


def _text(width: int, layers: int, heads: int, *, projected: bool, act: str) -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=PROMPT,
        vocab_size=49408,
        projection_dim=width,
        hidden_act=act,
        # The shipped tokenizer's signs.
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    made: nn.Module = (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)
    return made


def _first(side: int) -> Parts:
    return {
        "text_encoder": _text(768, 12, 12, projected=False, act="quick_gelu"),
        "unet": LIBRARY.UNet2DConditionModel(sample_size=side // 8, **UNET),
        "vae": LIBRARY.AutoencoderKL(sample_size=side, latent_channels=4, **AUTOENCODER),
    }


def _third() -> Parts:
    return {
        "text_encoder": _text(768, 12, 12, projected=True, act="quick_gelu"),
        "text_encoder_2": _text(1280, 32, 20, projected=True, act="gelu"),
        "transformer": LIBRARY.SD3Transformer2DModel(**MMDIT),
        "vae": LIBRARY.AutoencoderKL(
            sample_size=1024,
            latent_channels=16,
            scaling_factor=1.5305,
            shift_factor=0.0609,
            use_quant_conv=False,
            use_post_quant_conv=False,
            **AUTOENCODER,
        ),
    }


SIZES: Final[Mapping[str, Shape]] = {
    "sd-1.5-256": Shape(lambda: _first(256), "diffusion", 10**9, 256),
    "sd-1.5": Shape(lambda: _first(512), "diffusion", 3 * 10**9, 512),
    "sd-3-medium": Shape(_third, "diffusion3", 8 * 10**9, 1024),
}


def need(size: str) -> random_weights.Need:
    """What a job on a pipeline of this size takes."""
    shape = SIZES[size]
    with torch.device("meta"):
        parts = shape.make()
    layers = [
        layer for name, part in parts.items() for layer in diffusers_layout.layers_of(name, part)
    ]
    return random_weights.need(nn.ModuleDict(parts), layers, shape.activation_bytes)


def must_fit(size: str) -> None:
    """Raises OutOfMemory, in words, where it does not."""
    random_weights.must_fit(size, need(size))


def write(folder: Path, size: str, seed: int = 0) -> Path:
    """A pipeline folder of this size in float16; made once. Raises OutOfMemory."""
    must_fit(size)
    if folder.exists():
        return folder
    shape = SIZES[size]

    def written(partial: Path) -> None:
        with torch.device("meta"):
            parts = shape.make()
        rng = torch.Generator().manual_seed(seed)
        for name, part in parts.items():
            _part(partial / name, part, rng)
        _words(painters.shipped(shape.like), partial)

    return whole(folder, written)


def _part(folder: Path, part: Any, rng: torch.Generator) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if hasattr(part, "save_config"):  # of diffusers
        part.save_config(folder)
        file = "diffusion_pytorch_model.safetensors"
    else:
        part.config.save_pretrained(folder)
        file = "model.safetensors"
    random_weights.write(part, folder / file, rng)


def _words(source: Path, folder: Path) -> None:
    """Tokenizers, scheduler and index of a shipped pipeline, for prompts of the usual length."""
    shutil.copy(source / "model_index.json", folder)
    for each in (*source.glob("tokenizer*"), source / "scheduler"):
        shutil.copytree(each, folder / each.name, dirs_exist_ok=True)
    for path in folder.glob("tokenizer*/tokenizer_config.json"):
        config = json.loads(path.read_text("utf-8")) | {"model_max_length": PROMPT}
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
