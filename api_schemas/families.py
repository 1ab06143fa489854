"""The kinds of model that can be edited."""

from __future__ import annotations

from enum import StrEnum


class Family(StrEnum):
    """A model family: how its losses, units and measures are defined."""

    CLIP = "clip"
    DIFFUSION = "diffusion"
    VLM = "vlm"
