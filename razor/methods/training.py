"""One loop of AdamW for the methods that train whole matrices, and which of its states is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from razor.gradients import Gradients, mean_gradient
from razor.protocols import Family, Fit, Gauge, Reading, Tick

#: Draws of forget batches behind a gradient that is computed once and then relied on.
DRAWS = 4

Term = Callable[[], Gradients]


@dataclass(frozen=True)
class Loop:
    """AdamW (arXiv 1711.05101, torch's defaults but for the rate) on the named parameters.

    Every ``read_every`` steps, and after the last, the gauge is read; of all states read, the
    start among them, the one of least regret is kept. So the number of steps is tuned on fit and
    select pictures, for every method alike. Where nothing is left to regret the loop ends early.
    """

    family: Family
    names: tuple[str, ...]
    gauge: Gauge
    tick: Tick
    learning_rate: float
    steps: int
    read_every: int

    def run(self, terms: Sequence[Term], settle: Callable[[], None] | None = None) -> Reading:
        """Descends the terms in turn, one a step; leaves the best state seen and says how it read.

        Each term has moments of its own: with shared ones the term of larger gradients would set
        the length of both terms' steps. ``settle`` is called after every step. What ``tick`` raises
        passes through.
        """
        weights = self._weights()
        rules = [torch.optim.AdamW(weights.values(), lr=self.learning_rate) for _ in terms]
        best = self.gauge.read(whole=True)
        kept = copied(weights)
        for step in range(self.steps):
            if best.regret() <= 0:
                break
            turn = step % len(terms)
            self.tick("edit", step / self.steps, figures(best))
            _descend(weights, rules[turn], terms[turn]())
            if settle is not None:
                settle()
            if (step + 1) % self.read_every and step + 1 < self.steps:
                continue
            reading = self.gauge.read(whole=True)
            if reading.regret() < best.regret():
                best, kept = reading, copied(weights)
        with torch.no_grad():
            for name, tensor in kept.items():
                weights[name].copy_(tensor)
        return best

    def _weights(self) -> dict[str, Tensor]:
        parameters = dict(self.family.model.named_parameters())
        return {name: parameters[name] for name in self.names}


def forget_gradient(
    family: Family, fit: Fit, names: Sequence[str], rng: torch.Generator
) -> Gradients:
    """Gradient of the forget loss, the mean over ``DRAWS`` batches; + forgets."""
    batches = [fit.forget_batch(rng) for _ in range(DRAWS)]
    return mean_gradient(family.model, names, family.forget_loss, batches)


def copied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The values as they stand, apart from the model."""
    return {name: tensor.detach().clone() for name, tensor in weights.items()}


def _descend(
    weights: Mapping[str, Tensor], rule: torch.optim.Optimizer, gradient: Gradients
) -> None:
    """One step of the rule; nothing is left behind in ``.grad``."""
    try:
        for name, tensor in weights.items():
            tensor.grad = gradient[name]
        rule.step()
    finally:
        rule.zero_grad(set_to_none=True)


def figures(reading: Reading) -> dict[str, float]:
    """What a progress report says of a state."""
    return {"accuracy": reading.accuracy, "harm": reading.harm}
