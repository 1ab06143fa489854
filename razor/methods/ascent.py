"""GA, FT and GAFT: every matrix at once, by ascending what to forget, descending what to keep.

Three choices of terms for one AdamW loop, the plain baselines of arXiv 2407.11867: GA ascends the
forget loss alone, FT descends the retain loss alone and trusts that the concept fades, GAFT takes a
step of each in turn. That the best state on fit and select pictures is kept is our choice: run to
the end, GA destroys the model.
"""

from __future__ import annotations

from dataclasses import dataclass

from api_schemas import methods
from razor.gradients import Gradients, mean_gradient, parameters_of
from razor.methods.training import Loop, Term
from razor.protocols import Trace, Workpiece


@dataclass(frozen=True)
class Ascent:
    """One run of GA, FT or GAFT with fixed parameters."""

    params: methods.Ascent

    def edit(self, work: Workpiece, *, dry_run: bool = False) -> Trace:
        """Train every matrix of the towers; with ``dry_run`` name them. There are no scores."""
        family, fit, rng, towers = work.family, work.fit, work.rng, self.params.towers
        units = [u for u in family.units() if u.kind == "matrix" and u.tower in towers]
        names = parameters_of(units)
        trace = Trace((), {unit.name: 0 for unit in units})
        if dry_run:
            return trace

        def forgets() -> Gradients:
            found = mean_gradient(family.model, names, family.forget_loss, [fit.forget_batch(rng)])
            # Moving along +gradient of the forget loss forgets; the loop descends.
            return {name: gradient.neg_() for name, gradient in found.items()}

        def keeps() -> Gradients:
            return mean_gradient(family.model, names, family.retain_loss, [fit.retain_batch(rng)])

        terms: dict[str, list[Term]] = {"ga": [forgets], "ft": [keeps], "gaft": [forgets, keeps]}
        p = self.params
        loop = Loop(family, names, work.gauge, work.tick, p.learning_rate, p.steps, p.read_every)
        loop.run(terms[p.method])
        return trace
