"""SSD: dampen the weights that matter far more to the concept than to everything else.

Source: arXiv 2308.07707 (AAAI 2024). No training: two measures of importance, one product. The
paper's "all data" is the training set, with the concept in it. Here it is the retain set plus the
concept's pictures, weighed by ``CONCEPT_SHARE``: our choice, for a request brings a handful, and
how many the model was trained on is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from api_schemas import methods
from razor.gradients import mean_gradient, parameters_of
from razor.protocols import Batch, Family, Tick, Trace, Workpiece

#: What the concept is of all data. With it alpha means the same for every number of pictures; an
#: alpha above its inverse dampens nothing.
CONCEPT_SHARE = 0.01


@dataclass(frozen=True)
class Ssd:
    """One run of SSD with fixed parameters. Nothing in it is drawn at random."""

    params: methods.Ssd

    def edit(self, work: Workpiece, *, dry_run: bool = False) -> Trace:
        """Dampen weights in every matrix; with ``dry_run`` only name the matrices concerned."""
        family, fit, tick = work.family, work.fit, work.tick
        p = self.params
        units = [unit for unit in family.units() if unit.kind == "matrix"]
        names = parameters_of(units)
        own = fit.naming_batches(target=True, size=p.batch_size)
        kept = fit.naming_batches(target=False, size=p.batch_size)
        concept = importance(family, names, own, tick)
        rest = importance(family, names, kept, tick)
        factors = {}
        for name in names:
            whole = torch.lerp(rest[name], concept[name], CONCEPT_SHARE)
            factors[name] = dampening(concept[name], whole, p.alpha, p.lambda_dampening)
        parameters = dict(family.model.named_parameters())
        if not dry_run:
            with torch.no_grad():
                for name, factor in factors.items():
                    if bool((factor < 1).any()):
                        parameters[name].mul_(factor)
        less = {name: factor < 1 for name, factor in factors.items()}
        held = [unit for unit in units if any(r.of(less[r.parameter]).any() for r in unit.regions)]
        return Trace((), {unit.name: 0 for unit in held})


def dampening(
    concept: Tensor,  # any shape: importance for the concept
    whole: Tensor,  # the same shape: importance for all data
    alpha: float,
    strength: float,
) -> Tensor:  # the same shape, 0..1
    """min(lambda * I_D / I_f, 1) where I_f > alpha * I_D, else 1 (arXiv 2308.07707, section 4)."""
    chosen = concept > alpha * whole
    shrunk = (strength * whole / torch.where(chosen, concept, 1.0)).clamp(max=1.0)
    return torch.where(chosen, shrunk, 1.0)


def importance(
    family: Family, names: Sequence[str], batches: Sequence[Batch], tick: Tick
) -> dict[str, Tensor]:
    """Mean over batches of the squared gradient of the naming loss: an empirical Fisher diagonal.

    Averaging pictures before squaring makes larger batches look less important, so both sides
    need batches of one size.
    """
    total: dict[str, Tensor] = {}
    for number, batch in enumerate(batches):
        tick("score", number / len(batches), {})
        found = mean_gradient(family.model, names, family.naming_loss, [batch])
        for name, gradient in found.items():
            square = gradient.square_()
            total[name] = total[name].add_(square) if name in total else square
    return {name: tensor.div_(len(batches)) for name, tensor in total.items()}
