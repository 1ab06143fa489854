"""Checkpoints in the shapes that users serve, with random weights.

Time and memory of a job do not depend on what the weights are, so nothing has to be downloaded to
weigh one. What such a model answers means nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch

#: Size on the command line -> open_clip's own name of the architecture.
CLIP: Final[Mapping[str, str]] = {
    "vit-s-32": "ViT-S-32",
    "vit-b-32": "ViT-B-32",
    "vit-b-16": "ViT-B-16",
    "vit-l-14": "ViT-L-14",
}
#: Channel statistics and resizing that open_clip's configurations share.
PREPROCESS: Final = {
    "size": 224,
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "interpolation": "bicubic",
}


def clip(folder: Path, size: str, seed: int = 0) -> Path:
    """An open_clip folder of this size in float32, as open_clip initialises it; made once."""
    import open_clip
    from safetensors.torch import save_file

    if folder.exists():
        return folder
    config: dict[str, Any] = open_clip.get_model_config(CLIP[size])

    def write(partial: Path) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = open_clip.CLIP(**config)
        weights = {name: p.detach().contiguous() for name, p in model.state_dict().items()}
        save_file(weights, partial / "open_clip_model.safetensors", metadata={"format": "pt"})
        text = json.dumps({"model_cfg": config, "preprocess_cfg": PREPROCESS}, indent=2)
        (partial / "open_clip_config.json").write_text(text + "\n", encoding="utf-8")

    return whole(folder, write)


def whole(folder: Path, write: Callable[[Path], None]) -> Path:
    """The folder, there in full or not at all."""
    partial = folder.with_name(f"{folder.name}.part")
    partial.mkdir(parents=True, exist_ok=True)
    write(partial)
    return partial.rename(folder)
