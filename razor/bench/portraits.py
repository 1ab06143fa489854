"""Requests for one of the drawn people: what a user would send of them."""

from __future__ import annotations

import io

from api_schemas.concepts import Target
from razor.bench.plan import Drawings
from razor.material import Asked
from razor.reference import drawings, folders, people

#: Pictures of a request.
SAMPLES = 8


def asked(drawn: Drawings, name: str, samples: int = SAMPLES) -> Asked:
    """A request for one person, with further pictures to measure with."""
    looks = people.person_named(name).looks
    return Asked(
        Target(name=name, descriptions=(f"someone with {looks}",)),
        [png(name, drawn.samples, number) for number in range(samples)],
        [png(name, drawn.probes, number) for number in range(drawn.probed)],
    )


def png(name: str, folder_seed: int, number: int) -> bytes:
    """One drawing of a folder as a file."""
    stream = io.BytesIO()
    seed = folder_seed * folders.SEEDS_PER_FOLDER + number
    drawings.portrait(name, seed).image.save(stream, "PNG")
    return stream.getvalue()
