"""From texts and noisy latents to predictions, whichever pipeline class holds the parts.

Gradients flow into every part: a pipeline's own call allows none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from razor.families.diffusers_layout import Pipeline


@dataclass(frozen=True)
class Conditioning:
    """What the text encoders make of n texts."""

    states: Tensor  # (n, tokens, width)
    pooled: Tensor | None  # (n, width), where the denoiser takes one

    def take(self, rows: Sequence[int]) -> Conditioning:
        """Those of some texts, repeated where a row is named again."""
        pooled = None if self.pooled is None else self.pooled[list(rows)]
        return Conditioning(self.states[list(rows)], pooled)


def condition(pipeline: Pipeline, texts: Sequence[str]) -> Conditioning:
    """The texts as the pipeline's denoiser is given them."""
    pipe = pipeline.pipe
    asked: dict[str, Any] = {"prompt": list(texts), "device": pipe.device}
    if pipeline.denoiser == "transformer":
        asked |= {"prompt_2": None, "prompt_3": None}
    found = pipe.encode_prompt(**asked, num_images_per_prompt=1, do_classifier_free_guidance=False)
    # Text, empty text, and where there are pooled ones: text pooled, empty text pooled.
    return Conditioning(found[0], found[2] if len(found) > 2 else None)


def predict(
    pipeline: Pipeline,
    latents: Tensor,  # (n, c, h, w), noisy
    steps: Tensor,  # (n,)
    given: Conditioning,
) -> Tensor:  # (n, c, h, w)
    """What the denoiser says of the latents, in the kind that its scheduler names."""
    network: Any = pipeline.model[pipeline.denoiser]
    said: Tensor
    if pipeline.denoiser == "transformer":
        said = network(
            hidden_states=latents,
            timestep=steps,
            encoder_hidden_states=given.states,
            pooled_projections=given.pooled,
        ).sample
        return said
    extra = None
    if given.pooled is not None:
        extra = {"text_embeds": given.pooled, "time_ids": _whole_picture(pipeline, latents)}
    said = network(
        latents, steps, encoder_hidden_states=given.states, added_cond_kwargs=extra
    ).sample
    return said


@torch.no_grad()
def encode(pipeline: Pipeline, pixels: Tensor, chunk: int = 64) -> Tensor:  # (n, c, h, w)
    """Latents of pictures (n, 3, size, size) in 0..255: the distribution's means, undrawn."""
    vae = pipeline.pipe.vae
    shift = vae.config.get("shift_factor") or 0.0
    parts = [
        vae.encode(part.to(pipeline.pipe.device).float() / 127.5 - 1).latent_dist.mean
        for part in torch.split(pixels, chunk)
    ]
    found: Tensor = (torch.cat(parts) - shift) * vae.config.scaling_factor
    return found


def _whole_picture(pipeline: Pipeline, latents: Tensor) -> Tensor:  # (n, 6)
    """Stable Diffusion XL is told the picture's size, what was cut off it, and the size wanted."""
    factor = pipeline.pipe.vae_scale_factor
    height, width = (side * factor for side in latents.shape[-2:])
    row = torch.tensor([height, width, 0, 0, height, width], dtype=latents.dtype)
    return row.to(latents.device).repeat(len(latents), 1)
