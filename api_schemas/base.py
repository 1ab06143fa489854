"""The two kinds of schema: what comes in and what goes out."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Input(BaseModel):
    """What a caller sends: frozen, and unknown fields are errors, so a typo is never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Output(BaseModel):
    """What we send: frozen; unknown fields are ignored when read, so an old client survives."""

    model_config = ConfigDict(extra="ignore", frozen=True)
