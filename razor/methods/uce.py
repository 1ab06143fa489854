"""UCE: the keys and values that cross-attention makes of a name, changed in closed form.

Source: arXiv 2308.14761 (WACV 2024), equation 7. As in the published code, a name is the states
from its last word to the end of the text.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from api_schemas import methods
from razor.errors import MethodUnsupported
from razor.protocols import Guides, Hears, Trace, Workpiece


@dataclass(frozen=True)
class Uce:
    """One run of UCE with fixed parameters. Nothing in it is drawn at random."""

    params: methods.Uce

    def edit(self, work: Workpiece, *, dry_run: bool = False) -> Trace:
        """Rewrite every key and value matrix; with ``dry_run`` only name them."""
        p, family = self.params, work.family
        work.tick("score", 0.0, {})
        if not isinstance(family, Hears) or not isinstance(work.fit, Guides):
            raise MethodUnsupported
        regions = family.keys_and_values()
        hears = {region.parameter for region in regions}
        units = [
            u for u in family.units() if u.regions[0].parameter in hears and u.kind == "matrix"
        ]
        trace = Trace((), {unit.name: 0 for unit in units})
        if dry_run:
            return trace
        named, kept = work.fit.texts()
        guide = "" if p.guide == "empty" else kept[0]
        weights = dict(family.model.named_parameters())
        concept, instead = zip(*(family.text_states(n, guide) for n in named), strict=True)
        retained = [family.text_states(text, text)[0] for text in kept]
        with torch.no_grad():
            for region in regions:
                matrix = region.of(weights[region.parameter])
                matrix.copy_(
                    closed_form(
                        matrix,
                        torch.cat(concept),
                        torch.cat(instead),
                        torch.cat(retained),
                        p.erase,
                        p.preserve,
                        p.keep,
                    )
                )
        return trace


def closed_form(
    matrix: Tensor,  # (out, width)
    concept: Tensor,  # (n, width): states that shall be answered otherwise
    instead: Tensor,  # (n, width): states whose answer they get
    retained: Tensor,  # (m, width): states whose answer shall stay
    erase: float,
    preserve: float,
    keep: float,
) -> Tensor:  # (out, width)
    """(l W + a S v* c^T + b S W k k^T)(l I + a S c c^T + b S k k^T)^-1, in double precision."""
    w, c, g, k = (x.double() for x in (matrix, concept, instead, retained))
    own, other = erase * c.T @ c, preserve * k.T @ k
    eye = keep * torch.eye(w.shape[1], dtype=w.dtype, device=w.device)
    left = keep * w + erase * (w @ g.T) @ c + w @ other
    solved: Tensor = torch.linalg.solve(eye + own + other, left, left=False)
    return solved.to(matrix.dtype)
