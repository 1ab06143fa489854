"""The autoencoder of the reference generators: pictures of 32 pixels to latents of 8."""

from __future__ import annotations

from typing import Any

import diffusers
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from razor.reference.descent import Told, half, set_rate
from razor.reference.painted import SIZE

# The parts of a pipeline come without types.
Part = Any
PARTS: Part = diffusers

#: Side of a latent: a quarter of the picture's. Four channels, as in Stable Diffusion.
LATENT = SIZE // 4
BATCH, RATE = 48, 1.5e-3
#: Weight of the divergence from a unit normal (arXiv 2112.10752, section 3.1, keeps it this small).
DIVERGENCE = 1e-6


def autoencoder() -> Part:
    """Three stages, so two halvings of the side."""
    return PARTS.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(40, 80, 80),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=SIZE,
    )


def fit(vae: Part, pixels: Tensor, steps: int, tick: Told) -> None:
    """Trains the autoencoder in place; afterwards its latents have unit standard deviation."""
    optimizer = torch.optim.AdamW(vae.parameters(), lr=RATE, weight_decay=1e-3)
    for step in range(steps):
        set_rate(optimizer, RATE, step, steps)
        rows = torch.randint(len(pixels), (BATCH,))
        pictures = pixels[rows].float() / 127.5 - 1
        with half():
            found = vae.encode(pictures).latent_dist
            again = vae.decode(found.sample()).sample
        loss = F.l1_loss(again.float(), pictures) + DIVERGENCE * found.kl().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        tick(step / steps, {"loss": loss.item()})
    vae.eval().requires_grad_(False)
    spread = encode(vae, pixels[:: max(1, len(pixels) // 1000)]).std()
    vae.register_to_config(scaling_factor=vae.config.scaling_factor / float(spread))


@torch.no_grad()
def encode(vae: Part, pixels: Tensor) -> Tensor:
    """Scaled latents (n, 4, 8, 8) of pixels (n, 3, 32, 32) in 0..255: the means, undrawn."""
    parts = [
        vae.encode(part.float() / 127.5 - 1).latent_dist.mean for part in torch.split(pixels, 256)
    ]
    scaled: Tensor = torch.cat(parts) * vae.config.scaling_factor
    return scaled
