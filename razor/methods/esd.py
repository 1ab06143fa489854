"""ESD: teach the denoiser to answer the concept's name as guidance away from it would.

Source: arXiv 2303.07345 (ICCV 2023), equation 7: eps(x_t, c) is trained towards
eps0(x_t) - eta (eps0(x_t, c) - eps0(x_t)). ESD-x trains cross-attention, ESD-u everything else. The
paper's noisy pictures are half-finished ones of the model itself; here they are noisy latents of
the pictures that were sent and of some that the frozen model painted. Convolutions, norms and
biases are no units and stay. That the best state on fit and select pictures is kept is our choice.
"""

from __future__ import annotations

from dataclasses import dataclass

from api_schemas import methods
from razor.errors import MethodUnsupported
from razor.gradients import Gradients, mean_gradient, parameters_of
from razor.methods.training import Loop
from razor.protocols import Guides, Hears, Trace, Workpiece


@dataclass(frozen=True)
class Esd:
    """One run of ESD with fixed parameters."""

    params: methods.Esd

    def edit(self, work: Workpiece, *, dry_run: bool = False) -> Trace:
        """Train the chosen matrices; with ``dry_run`` only name them. There are no scores."""
        p, family, fit, rng = self.params, work.family, work.fit, work.rng
        if not isinstance(family, Hears) or not isinstance(fit, Guides):
            raise MethodUnsupported
        hears = {region.parameter for region in family.text_attention()}
        units = [
            unit
            for unit in family.units()
            if unit.kind == "matrix"
            and unit.tower == "denoiser"
            and (unit.regions[0].parameter in hears) == (p.variant == "x")
        ]
        names = parameters_of(units)
        trace = Trace((), {unit.name: 0 for unit in units})
        if dry_run:
            return trace

        def away() -> Gradients:
            lesson = fit.guided_away(rng, p.strength)
            return mean_gradient(family.model, names, family.naming_loss, [lesson])

        Loop(family, names, work.gauge, work.tick, p.learning_rate, p.steps, p.read_every).run(
            [away]
        )
        return trace
