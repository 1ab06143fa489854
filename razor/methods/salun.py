"""SalUn: train the weights that matter most to the concept until it goes by other names.

Source: arXiv 2310.12508 (ICLR 2024). The mask is the top share of |grad L_forget| over all weights;
only masked weights learn, from the concept's pictures with random retained labels and from the
retain set. For CLIP, which the paper does not treat, labels are learned by zero-shot classification
and the retain term is the model's own contrastive loss: our choice, as is keeping the best state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from api_schemas import methods
from razor.gradients import Gradients, mean_gradient, parameters_of
from razor.methods.training import Loop, copied, forget_gradient
from razor.protocols import Trace, Workpiece


@dataclass(frozen=True)
class Salun:
    """One run of SalUn with fixed parameters."""

    params: methods.Salun

    def edit(self, work: Workpiece, *, dry_run: bool = False) -> Trace:
        """Train the masked weights; with ``dry_run`` only name the matrices that hold them.

        Weights outside the mask keep every bit, also between steps.
        """
        family, fit, rng = work.family, work.fit, work.rng
        work.tick("score", 0.0, {})
        p = self.params
        units = [
            unit for unit in family.units() if unit.kind == "matrix" and unit.tower in p.towers
        ]
        names = parameters_of(units)
        masks = salient(forget_gradient(family, fit, names, rng), p.share)
        held = [unit for unit in units if any(r.of(masks[r.parameter]).any() for r in unit.regions)]
        trace = Trace((), {unit.name: 0 for unit in held})
        if dry_run:
            return trace
        parameters = dict(family.model.named_parameters())
        weights = {name: parameters[name] for name in names}
        start = copied(weights)

        def renamed() -> Gradients:
            wrong = [fit.relabelled_batch(rng)]
            other = mean_gradient(family.model, names, family.naming_loss, wrong)
            pairs = [fit.retain_batch(rng)]
            kept = mean_gradient(family.model, names, family.retain_loss, pairs)
            return {
                name: masks[name] * (other[name] + p.lambda_retain * kept[name]) for name in names
            }

        @torch.no_grad()
        def restore() -> None:
            for name, tensor in weights.items():  # AdamW's decay moves weights without a gradient
                tensor.copy_(torch.where(masks[name], tensor, start[name]))

        loop = Loop(family, names, work.gauge, work.tick, p.learning_rate, p.steps, p.read_every)
        loop.run([renamed], restore)
        return trace


def salient(gradients: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Which weights are among the ``share`` of largest |gradient|, over all parameters together.

    At most that share: of equal gradients at the edge, and of those that are zero, none is taken.
    Source: arXiv 2310.12508, section 4, where the share is a half.
    """
    sizes = torch.cat([gradient.abs().flatten() for gradient in gradients.values()])
    left_out = sizes.numel() - int(share * sizes.numel())
    edge = sizes.kthvalue(left_out).values if left_out else sizes.new_zeros(())
    return {name: gradient.abs() > edge for name, gradient in gradients.items()}
