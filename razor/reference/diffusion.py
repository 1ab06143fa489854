"""The reference picture generators: a tiny Stable Diffusion and a tiny Stable Diffusion 3.

Each checkpoint folder is one that diffusers alone loads:

    pipe = DiffusionPipeline.from_pretrained("FOLDER")
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from razor.reference.autoencoder import LATENT, PARTS, Part
from razor.reference.descent import Told, descend, half
from razor.reference.wording import Batches, text_config

BATCH = 64
UNET_RATE, TRANSFORMER_RATE = 1e-3, 1e-3
#: Easy noise levels are not learnt at the cost of hard ones (arXiv 2303.09556, gamma of 5).
SNR_LIMIT = 5.0


def stable_diffusion(
    vae: Part, words: CLIPTokenizer, batches: Batches, steps: int, tick: Told
) -> Part:
    """A pipeline whose text encoder and U-Net were trained together on the batches."""
    text, network = CLIPTextModel(text_config(words, 128)), unet()
    network.to(memory_format=torch.channels_last)
    noise = discrete_scheduler()
    levels = noise.alphas_cumprod
    snr = levels / (1 - levels)
    weights = snr.clamp(max=SNR_LIMIT) / snr  # of an epsilon target

    def loss_at() -> Tensor:
        latents, ids = batches.draw(BATCH)
        times = torch.randint(len(levels), (BATCH,))
        drawn = torch.randn_like(latents)
        noisy = noise.add_noise(latents, drawn, times)
        with half():
            guess = network(noisy, times, text(ids).last_hidden_state).sample
        each = (guess.float() - drawn).square().mean(dim=(1, 2, 3))
        loss: Tensor = (weights[times] * each).mean()
        return loss

    parts = nn.ModuleList([text, network])
    descend(parts, loss_at, steps=steps, rate=UNET_RATE, tick=tick)
    return PARTS.StableDiffusionPipeline(
        vae, text, words, network, noise, None, None, requires_safety_checker=False
    )


def stable_diffusion_3(
    vae: Part, words: CLIPTokenizer, batches: Batches, steps: int, tick: Told
) -> Part:
    """A pipeline whose two text encoders and MMDiT were trained together by flow matching."""
    texts = [CLIPTextModelWithProjection(text_config(words, 96)) for _ in range(2)]
    network = transformer()
    noise = PARTS.FlowMatchEulerDiscreteScheduler()
    vae.register_to_config(shift_factor=0.0)  # this pipeline, unlike the first, takes no null
    pipe = PARTS.StableDiffusion3Pipeline(
        network, noise, vae, texts[0], words, texts[1], words, None, None
    )

    def loss_at() -> Tensor:
        latents, ids = batches.draw(BATCH)
        # Middle noise levels more often than the ends (arXiv 2403.03206, section 3.1).
        share = torch.randn(BATCH).sigmoid()
        drawn = torch.randn_like(latents)
        mixed = torch.lerp(latents, drawn, share.view(-1, 1, 1, 1))
        with half():
            states, pooled = _conditioning(texts, ids, network)
            guess = network(
                hidden_states=mixed,
                timestep=1000 * share,
                encoder_hidden_states=states,
                pooled_projections=pooled,
            ).sample
        loss: Tensor = (guess.float() - (drawn - latents)).square().mean()
        return loss

    parts = nn.ModuleList([*texts, network])
    descend(parts, loss_at, steps=steps, rate=TRANSFORMER_RATE, tick=tick)
    return pipe


def _conditioning(
    texts: list[CLIPTextModelWithProjection], ids: Tensor, network: Part
) -> tuple[Tensor, Tensor]:
    """What the pipeline makes of token ids: states of the last layer but one, and pooled ones.

    States of both encoders lie beside each other; where a T5 would speak there are zeros.
    """
    said = [text(ids, output_hidden_states=True) for text in texts]
    states = torch.cat([each.hidden_states[-2] for each in said], dim=-1)
    width = network.config.joint_attention_dim
    states = torch.nn.functional.pad(states, (0, width - states.shape[-1], 0, states.shape[1]))
    return states, torch.cat([each.text_embeds for each in said], dim=-1)


def unet() -> Part:
    """Two stages of convolutions with cross-attention, as in Stable Diffusion but narrow."""
    return PARTS.UNet2DConditionModel(
        sample_size=LATENT,
        block_out_channels=(80, 144),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=128,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def transformer() -> Part:
    """Four joint blocks over 16 places of a latent, two by two; they change nothing until trained.

    Starting as the identity is what lets a diffusion transformer learn quickly (arXiv 2212.09748,
    section 3.2).
    """
    network = PARTS.SD3Transformer2DModel(
        sample_size=LATENT,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=4,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=192,
        caption_projection_dim=128,
        pooled_projection_dim=192,
        pos_embed_max_size=LATENT,
        qk_norm="rms_norm",
    )
    quiet = [network.norm_out.linear, network.proj_out]
    for block in network.transformer_blocks:
        quiet += [block.norm1.linear, block.norm1_context.linear]
    for linear in quiet:
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
    return network


def discrete_scheduler() -> Part:
    """Stable Diffusion's noise levels. Clamping samples would wash out latents' colours."""
    return PARTS.DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
