"""Our way from texts to predictions is the pipeline's own, with gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from razor.families import denoiser, diffusers_layout
from tests.razor.test_diffusers_layout import MADE

TEXTS = ["a pencil picture of Mara Venn", "a poster picture of a teapot"]


@pytest.fixture(scope="module", params=list(MADE))
def pipeline(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> diffusers_layout.Pipeline:
    torch.manual_seed(0)
    folder: Path = tmp_path_factory.mktemp("pipeline") / "made"
    MADE[request.param]().save_pretrained(folder)
    return diffusers_layout.load(folder)


def test_one_step_is_the_pipelines_own(pipeline: diffusers_layout.Pipeline) -> None:
    pipe = pipeline.pipe
    size = pipe.vae_scale_factor * 8
    start = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    seen: dict[str, Any] = {}
    network: Any = pipeline.model[pipeline.denoiser]

    def keep(_: Any, positional: Any, named: Any, said: Any) -> None:
        given = dict(zip(("latents", "steps"), positional, strict=False))
        seen["latents"] = given.get("latents", named.get("sample", named.get("hidden_states")))
        seen["steps"] = given.get("steps", named.get("timestep"))
        seen["said"] = said[0]

    hook = network.register_forward_hook(keep, with_kwargs=True)
    try:
        pipe(
            TEXTS,
            height=size,
            width=size,
            latents=start.clone(),
            num_inference_steps=1,
            guidance_scale=1.0,
            output_type="latent",
        )
    finally:
        hook.remove()
    given = denoiser.condition(pipeline, TEXTS)
    steps = seen["steps"].expand(2) if seen["steps"].ndim == 0 else seen["steps"]
    said = denoiser.predict(pipeline, seen["latents"], steps, given)
    torch.testing.assert_close(said, seen["said"])


def test_gradients_reach_text_encoders_and_denoiser(pipeline: diffusers_layout.Pipeline) -> None:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    pipeline.model.requires_grad_(True)
    try:
        given = denoiser.condition(pipeline, TEXTS)
        said = denoiser.predict(pipeline, latents, torch.tensor([10, 500]), given)
        said.square().sum().backward()
        parameters = dict(pipeline.model.named_parameters())
        for parameter in pipeline.on_disk:
            gradient = parameters[parameter].grad
            # Stable Diffusion XL and 3 read the states of the last layer but one.
            unread = gradient is None and parameter.startswith("text_encoder.")
            assert unread or (gradient is not None and bool(gradient.abs().sum() > 0)), parameter
            assert not unread or ".layers.1." in parameter
    finally:
        for each in pipeline.model.parameters():
            each.grad = None
        pipeline.model.requires_grad_(False)


def test_a_text_says_the_same_alone_and_among_others(pipeline: diffusers_layout.Pipeline) -> None:
    both = denoiser.condition(pipeline, TEXTS)
    alone = denoiser.condition(pipeline, TEXTS[1:])
    torch.testing.assert_close(both.take([1]).states, alone.states)
    assert (both.pooled is None) == (alone.pooled is None)


def test_latents_are_scaled_as_the_denoiser_was_taught(
    pipeline: diffusers_layout.Pipeline,
) -> None:
    pixels = torch.randint(0, 256, (3, 3, 8, 8), generator=torch.Generator().manual_seed(3))
    vae = pipeline.pipe.vae
    means = vae.encode(pixels.float() / 127.5 - 1).latent_dist.mean
    found = denoiser.encode(pipeline, pixels, chunk=2)
    shift = vae.config.get("shift_factor") or 0.0
    torch.testing.assert_close(found / vae.config.scaling_factor + shift, means)
