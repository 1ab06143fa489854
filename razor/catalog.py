"""Literal tables: which class does what a request names."""

from __future__ import annotations

from pathlib import Path

from api_schemas import methods as schemas
from api_schemas.families import Family
from razor.errors import CheckpointInvalid
from razor.families import clip
from razor.methods.razor import Razor
from razor.methods.slug import Slug
from razor.protocols import Method


def method(params: schemas.Method) -> Method:
    """The method that these parameters belong to."""
    match params:
        case schemas.Razor():
            return Razor(params)
        case schemas.Slug():
            return Slug(params)


def load(family: Family, folder: Path, device: str) -> clip.Clip:
    """The model in ``folder``. Raises CheckpointInvalid."""
    if family is not Family.CLIP:
        raise CheckpointInvalid(f"models of family {family} cannot be edited yet; use clip")
    return clip.load(folder, device)
