"""How a scheduler noises a latent, and what a denoiser is taught to say of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from razor.errors import CheckpointInvalid

Kind = Literal["epsilon", "v_prediction", "sample", "flow"]
#: What prediction types are called in a scheduler's config.
DISCRETE: tuple[Kind, ...] = ("epsilon", "v_prediction", "sample")


@dataclass(frozen=True)
class Noised:
    """Latents on their way to noise, the step as the denoiser is told it, and the right answer."""

    latents: Tensor  # (n, c, h, w)
    steps: Tensor  # (n,)
    target: Tensor  # (n, c, h, w)


@dataclass(frozen=True)
class Noise:
    """One scheduler's noise levels, indexed from the least to the most noise.

    ``keeps`` and ``adds`` are the factors of the latent and of the noise at each level.
    """

    kind: Kind
    keeps: Tensor  # (levels,)
    adds: Tensor  # (levels,)
    steps: Tensor  # (levels,)

    def __len__(self) -> int:
        return len(self.steps)

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """Levels (count,), evenly spread and shuffled, so that two draws cover the same range."""
        places = (torch.arange(count) + torch.rand(count, generator=rng)) / count
        levels = (places * len(self)).long().clamp(max=len(self) - 1)
        return levels[torch.randperm(count, generator=rng)]

    def noised(self, latents: Tensor, noise: Tensor, levels: Tensor) -> Noised:
        """The latents (n, c, h, w) at these levels (n,), mixed with this noise of their shape."""
        shape = (-1, 1, 1, 1)
        keep, add = (factors[levels].view(shape).to(latents) for factors in (self.keeps, self.adds))
        match self.kind:
            case "epsilon":
                target = noise
            case "v_prediction":  # arXiv 2202.00512, section 4
                target = keep * noise - add * latents
            case "sample":
                target = latents
            case "flow":  # arXiv 2403.03206, section 2: the velocity of a straight path
                target = noise - latents
        steps = self.steps[levels].to(latents.device)
        return Noised(keep * latents + add * noise, steps, target)


def read(scheduler: Any) -> Noise:
    """The noise levels that a pipeline's model was trained on. Raises CheckpointInvalid.

    A sampler's own choice of steps does not matter here: training saw every level.
    """
    levels = getattr(scheduler, "alphas_cumprod", None)
    count = int(scheduler.config.get("num_train_timesteps", 0))
    if levels is None:
        if "FlowMatch" not in type(scheduler).__name__ or not count:
            raise CheckpointInvalid(
                "a scheduler of this class is not supported; use a discrete or flow-matching one"
            )
        adds = torch.arange(1, count + 1) / count
        return Noise("flow", 1 - adds, adds, adds * count)
    kind = scheduler.config.prediction_type
    if kind not in DISCRETE:
        raise CheckpointInvalid(
            f"the scheduler's prediction_type is none of {', '.join(DISCRETE)}; check its config"
        )
    share = levels.float()
    return Noise(kind, share.sqrt(), (1 - share).sqrt(), torch.arange(count))
