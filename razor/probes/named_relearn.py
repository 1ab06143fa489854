"""How fast a name comes back when a vision-language model is trained on a few pictures again.

The attacker holds the fit pictures and knows what the model once answered to them, and trains the
vision tower. A model that never knew the target (gold) learns it too: only what comes back faster
was still there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from api_schemas.reports import Better, MetricResult
from razor.gradients import mean_gradient, parameters_of
from razor.material import Material
from razor.probes import naming
from razor.probes.cards import Card
from razor.protocols import Fit

#: AdamW steps after which the target is asked for, and their rate.
STEPS = (2, 5, 10)
LEARNING_RATE = 1e-4
PICTURES = 16
TOWER = "image"


def observe(
    family: Any, fit: Fit, material: Material, seed: int
) -> dict[int, np.ndarray]:  # steps -> (n,) bool
    """Which answers on the target's test pictures hold its name after so many steps."""
    names = parameters_of(unit for unit in family.units() if unit.tower == TOWER)
    parameters = {name: p for name, p in family.model.named_parameters() if name in set(names)}
    kept = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    batches = fit.naming_batches(target=True, size=PICTURES)
    optimizer = torch.optim.AdamW(parameters.values(), lr=LEARNING_RATE, weight_decay=0.0)
    asked = {"": material.templates[material.domain]}
    found: dict[int, np.ndarray] = {}
    try:
        for step in range(1, max(STEPS) + 1):
            batch = batches[(step - 1) % len(batches)]
            gradients = mean_gradient(family.model, names, family.naming_loss, [batch])
            for name, parameter in parameters.items():
                parameter.grad = gradients[name]
            optimizer.step()
            if step in STEPS:
                said = naming.answers_of(family, material, asked)[""]
                found[step] = naming.named(said, material.names)
    finally:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.grad = None
                parameter.copy_(kept[name])
    return found


def compare(
    material: Material,
    before: dict[int, np.ndarray],
    after: dict[int, np.ndarray],
    seed: int,
) -> list[MetricResult]:
    """NR after so many steps of training."""
    return [
        Card(
            f"NR_relearn{steps}",
            f"naming rate after {steps} steps of relearning",
            f"NR after {steps} AdamW steps at {LEARNING_RATE:g} of the vision tower on the "
            "target's fit pictures with what the model once said of them.",
            Better.LOWER,
        ).proportion(before[steps], after[steps])
        for steps in STEPS
    ]
