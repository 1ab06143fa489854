"""Tiny untrained vision-language models of every architecture that can be edited."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from razor.reference import talk, vlm

QWEN_TEMPLATE = (
    "{% for message in messages %}<s>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<vision><image></vision>"
    "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}</s>\n{% endfor %}{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
KINDS = ("llava", "llava-next", "qwen2.5-vl")


def qwen(words: Any) -> tuple[Any, Any]:
    """A Qwen2.5-VL: windowed vision tower with fused projections, grouped queries."""
    words.add_special_tokens({"extra_special_tokens": ["<vision>", "</vision>", "<video>"]})
    words.image_token, words.video_token = talk.IMAGE, "<video>"
    ids = {name: words.convert_tokens_to_ids(name) for name in words.get_vocab()}
    images = transformers.Qwen2VLImageProcessor(
        size={"shortest_edge": 28 * 28, "longest_edge": 56 * 56},
        patch_size=14,
        merge_size=2,
        temporal_patch_size=2,
    )
    processor = transformers.Qwen2_5_VLProcessor(
        image_processor=images,
        tokenizer=words,
        video_processor=transformers.Qwen2VLVideoProcessor(),
        chat_template=QWEN_TEMPLATE,
    )
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(words),
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]},
            "bos_token_id": ids[talk.START],
            "eos_token_id": ids[talk.END],
            "pad_token_id": ids[talk.PAD],
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 4,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 56,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [1],
        },
        image_token_id=ids[talk.IMAGE],
        video_token_id=ids["<video>"],
        vision_start_token_id=ids["<vision>"],
        vision_end_token_id=ids["</vision>"],
    )
    return transformers.Qwen2_5_VLForConditionalGeneration(config), processor


def save(kind: str, folder: Path, dtype: torch.dtype = torch.float16, **how: Any) -> Path:
    """An untrained model and its processor in a folder; ``how`` goes to ``save_pretrained``."""
    torch.manual_seed(5)
    words = talk.tokenizer()
    if kind == "qwen2.5-vl":
        model, processor = qwen(words)
    else:
        made = vlm.KINDS[kind]
        processor, model = made.processor(words), made.network(words)
    model.to(dtype).save_pretrained(folder, **how)
    processor.save_pretrained(folder)
    return folder
