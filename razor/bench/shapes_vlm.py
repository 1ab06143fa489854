"""Model folders in the shapes of LLaVA: one of CLIP's vision towers before a language model.

Words, chat template and processor are those of the shipped model, for pictures of the tower's size.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from razor.bench import random_weights, talkers
from razor.bench.shapes import whole
from razor.families import vlm_layout
from razor.families.vlm_layout import LIBRARY

LIKE: Final = "llava"
#: ViT-L/14 at 336 pixels and ViT-B/16, as OpenAI has them.
LARGE: Final[Mapping[str, Any]] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
    "hidden_act": "quick_gelu",
}
BASE: Final[Mapping[str, Any]] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 16,
    "projection_dim": 512,
    "hidden_act": "quick_gelu",
}
#: The shipped tokenizer's signs.
SIGNS: Final[Mapping[str, int]] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
PICTURE: Final = 3


@dataclass(frozen=True)
class Shape:
    """A tower, the language model behind it, and what activations take."""

    tower: Mapping[str, Any]
    language: Callable[[], Any]  # its configuration
    activation_bytes: int  # an estimate, of the batches that the benchmark shows it


SIZES: Final[Mapping[str, Shape]] = {
    # Qwen2-0.5B
    "llava-0.5b": Shape(
        BASE,
        lambda: LIBRARY.Qwen2Config(
            **SIGNS,
            hidden_size=896,
            intermediate_size=4864,
            num_hidden_layers=24,
            num_attention_heads=14,
            num_key_value_heads=2,
            vocab_size=151936,
            tie_word_embeddings=True,
        ),
        3 * 10**9,
    ),
    # TinyLlama-1.1B
    "llava-1.1b": Shape(
        LARGE,
        lambda: LIBRARY.LlamaConfig(
            **SIGNS,
            hidden_size=2048,
            intermediate_size=5632,
            num_hidden_layers=22,
            num_attention_heads=32,
            num_key_value_heads=4,
            vocab_size=32064,
        ),
        4 * 10**9,
    ),
    # Vicuna-7B
    "llava-1.5-7b": Shape(
        LARGE,
        lambda: LIBRARY.LlamaConfig(
            **SIGNS,
            hidden_size=4096,
            intermediate_size=11008,
            num_hidden_layers=32,
            num_attention_heads=32,
            vocab_size=32064,
        ),
        8 * 10**9,
    ),
}


def _model(size: str) -> Any:
    language, tower = SIZES[size].language(), SIZES[size].tower
    config = LIBRARY.LlavaConfig(
        vision_config=LIBRARY.CLIPVisionConfig(**tower),
        text_config=language,
        image_token_index=PICTURE,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        image_seq_length=(tower["image_size"] // tower["patch_size"]) ** 2,
        tie_word_embeddings=bool(language.tie_word_embeddings),
    )
    with torch.device("meta"):
        return LIBRARY.LlavaForConditionalGeneration(config)


def need(size: str) -> random_weights.Need:
    """What a job on a model of this size takes."""
    model = _model(size)
    layers = vlm_layout.layers_of(model)
    return random_weights.need(model, layers, SIZES[size].activation_bytes)


def must_fit(size: str) -> None:
    """Raises OutOfMemory, in words, where it does not."""
    random_weights.must_fit(size, need(size))


def write(folder: Path, size: str, seed: int = 0) -> Path:
    """A model folder of this size in float16; made once. Raises OutOfMemory."""
    must_fit(size)
    if folder.exists():
        return folder

    def written(partial: Path) -> None:
        model = _model(size)
        model.config.save_pretrained(partial)
        rng = torch.Generator().manual_seed(seed)
        random_weights.write(model, partial / "model.safetensors", rng)
        _words(talkers.shipped(LIKE), partial, SIZES[size].tower)

    return whole(folder, written)


def _words(source: Path, folder: Path, tower: Mapping[str, Any]) -> None:
    """The shipped model's words; its processor, for pictures of the tower's size."""
    for name in (
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "generation_config.json",
    ):
        shutil.copy(source / name, folder)
    config = json.loads((source / "processor_config.json").read_text("utf-8"))
    config["patch_size"], side = tower["patch_size"], tower["image_size"]
    config["image_processor"] |= {
        "crop_size": {"height": side, "width": side},
        "size": {"shortest_edge": side},
    }
    text = json.dumps(config, indent=2) + "\n"
    (folder / "processor_config.json").write_text(text, encoding="utf-8")
