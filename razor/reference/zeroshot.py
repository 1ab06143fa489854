"""Zero-shot accuracy of a CLIP on a set of pictures, one figure per domain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from razor.reference.captions import prompts_for
from razor.reference.pictures import DOMAINS, PictureSet

# Pixels to the network's input: the mean and deviation that the checkpoint's config also states.
MEAN = STD = 0.5

Tokenize = Callable[[list[str]], Tensor]


@dataclass(frozen=True)
class Accuracy:
    """Top-1 accuracy in percent over `n` pictures and `classes` candidate values."""

    percent: float
    n: int
    classes: int


def network_input(pixels: Tensor) -> Tensor:
    """uint8 (n, 3, s, s) to the float32 input that the checkpoint's `preprocess_cfg` describes."""
    return (pixels.float() / 255 - MEAN) / STD


def embed_pictures(model: Any, pixels: Tensor, batch: int = 256) -> Tensor:
    """Unit image embeddings, float32 (n, d), of uint8 pixels (n, 3, s, s)."""
    with torch.inference_mode():
        parts = [
            model.encode_image(network_input(pixels[start : start + batch]), True)
            for start in range(0, len(pixels), batch)
        ]
    return torch.cat(parts).float()


def embed_values(model: Any, tokenize: Tokenize, domain: str, values: Sequence[str]) -> Tensor:
    """One unit text embedding per value, float32 (values, d): the mean over its prompts."""
    with torch.inference_mode():
        classes = [
            F.normalize(model.encode_text(tokenize(texts), True).float().mean(0), dim=0)
            for texts in prompts_for(domain, values)
        ]
    return torch.stack(classes)


def zero_shot_accuracies(
    model: Any,
    tokenize: Tokenize,
    pictures: PictureSet,
    names: Sequence[str] | None = None,
) -> dict[str, Accuracy]:
    """Top-1 accuracy per domain whose column is filled, in the order of `DOMAINS`.

    Candidate names are `names` or those that occur; candidate attributes are those that occur.
    A picture whose cell is empty is left out of that domain, and so is a domain with one value.
    The model is put in evaluation mode.
    """
    model.eval()
    images = embed_pictures(model, pictures.pixels)
    result: dict[str, Accuracy] = {}
    for domain in DOMAINS:
        cells: list[str | None] = [getattr(row, domain) for row in pictures.rows]
        filled = [k for k, cell in enumerate(cells) if cell is not None]
        values = tuple(dict.fromkeys(cell for cell in cells if cell is not None))
        if domain == "name" and names is not None:
            values = tuple(names)
        if len(values) < 2:
            continue
        texts = embed_values(model, tokenize, domain, values)
        guesses = (images[filled] @ texts.T).argmax(dim=1).tolist()
        right = sum(values[guess] == cells[k] for guess, k in zip(guesses, filled, strict=True))
        result[domain] = Accuracy(100 * right / len(filled), len(filled), len(values))
    return result
