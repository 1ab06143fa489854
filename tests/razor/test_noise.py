"""What a denoiser is asked leads back to the latent it was made from, for every kind of target."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

from razor.errors import CheckpointInvalid
from razor.families import noise

PARTS: Any = diffusers


def schedulers() -> dict[str, Any]:
    return {
        "epsilon": PARTS.DDIMScheduler(clip_sample=False, steps_offset=1),
        "v_prediction": PARTS.EulerDiscreteScheduler(prediction_type="v_prediction"),
        "sample": PARTS.DDPMScheduler(prediction_type="sample"),
        "flow": PARTS.FlowMatchEulerDiscreteScheduler(shift=3.0),
    }


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample", "flow"])
def test_the_right_answer_leads_back_to_the_latent(kind: str) -> None:
    found = noise.read(schedulers()[kind])
    assert found.kind == kind
    rng = torch.Generator().manual_seed(0)
    latents, drawn = (torch.randn(12, 4, 8, 8, generator=rng) for _ in range(2))
    levels = found.draw(12, rng)
    made = found.noised(latents, drawn, levels)
    keep, add = (factors[levels].view(-1, 1, 1, 1) for factors in (found.keeps, found.adds))
    back = {
        "epsilon": lambda: (made.latents - add * made.target) / keep,
        "v_prediction": lambda: keep * made.latents - add * made.target,
        "sample": lambda: made.target,
        "flow": lambda: made.latents - add * made.target,
    }[kind]()
    # At the noisiest levels of an epsilon target next to nothing of the latent is left.
    torch.testing.assert_close(back, latents, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("kind", ["epsilon", "sample"])
def test_latents_are_noised_as_the_library_does(kind: str) -> None:
    scheduler = schedulers()[kind]
    rng = torch.Generator().manual_seed(1)
    latents, drawn = (torch.randn(5, 4, 8, 8, generator=rng) for _ in range(2))
    levels = torch.tensor([0, 10, 500, 900, 999])
    made = noise.read(scheduler).noised(latents, drawn, levels)
    torch.testing.assert_close(made.latents, scheduler.add_noise(latents, drawn, levels))
    assert torch.equal(made.steps, levels)


def test_flow_levels_end_in_pure_noise_at_the_last_step() -> None:
    found = noise.read(schedulers()["flow"])
    assert (float(found.keeps[-1]), float(found.adds[-1])) == (0.0, 1.0)
    assert float(found.steps[-1]) == 1000.0
    assert float(found.adds[0]) > 0.0


def test_draws_cover_every_part_of_the_range() -> None:
    found = noise.read(schedulers()["epsilon"])
    levels = found.draw(10, torch.Generator().manual_seed(2)).sort().values
    assert levels.div(100, rounding_mode="floor").tolist() == list(range(10))


def test_unknown_schedulers_are_refused() -> None:
    with pytest.raises(CheckpointInvalid, match="flow-matching"):
        noise.read(PARTS.KarrasVeScheduler())
