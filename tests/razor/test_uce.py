"""UCE's closed form, against its definition as a least-squares problem."""

from __future__ import annotations

import torch

from razor.methods.uce import closed_form


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_it_is_the_minimum_of_what_it_weighs() -> None:
    """Source: arXiv 2308.14761, equation 7; here the gradient of its objective is looked at."""
    matrix, concept, instead = drawn(5, 4, seed=0), drawn(3, 4, seed=1), drawn(3, 4, seed=2)
    retained = drawn(6, 4, seed=3)
    found = closed_form(matrix, concept, instead, retained, 1.0, 0.5, 0.2)
    free = found.double().requires_grad_()
    w, c, g, k = (x.double() for x in (matrix, concept, instead, retained))
    loss = (free @ c.T - w @ g.T).square().sum() + 0.5 * (free @ k.T - w @ k.T).square().sum()
    loss = loss + 0.2 * (free - w).square().sum()
    (gradient,) = torch.autograd.grad(loss, free)
    assert gradient.abs().max() < 1e-4
    (before,) = torch.autograd.grad(
        (w.requires_grad_() @ c.T - (w.detach() @ g.T)).square().sum(), w
    )
    assert before.abs().max() > 0.1  # the unedited matrix is no minimum


def test_a_name_mapped_to_itself_changes_nothing() -> None:
    matrix, concept = drawn(5, 4, seed=0), drawn(3, 4, seed=1)
    found = closed_form(matrix, concept, concept, drawn(6, 4, seed=3), 1.0, 1.0, 0.1)
    assert torch.allclose(found, matrix, atol=1e-5)


def test_a_heavy_name_is_answered_as_its_guide() -> None:
    matrix, concept, instead = drawn(5, 4, seed=0), drawn(2, 4, seed=1), drawn(2, 4, seed=2)
    found = closed_form(matrix, concept, instead, drawn(1, 4, seed=3), 1e5, 0.0, 1e-3)
    assert torch.allclose(found @ concept.T, matrix @ instead.T, atol=1e-2)
