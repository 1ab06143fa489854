"""One place where chance comes from, so that equal runs give equal bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def generator(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator of its own for each purpose: one more draw here moves nothing there."""
    return torch.Generator().manual_seed(derived(seed, purpose))


def derived(seed: int, purpose: str) -> int:
    """A seed of its own for each purpose."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Seeds torch and allows deterministic kernels only; puts both back afterwards."""
    was = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    state = torch.random.get_rng_state()
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.random.set_rng_state(state)
        torch.use_deterministic_algorithms(was, warn_only=warned)
