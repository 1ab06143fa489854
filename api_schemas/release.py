"""Which release this is."""

from __future__ import annotations

import importlib.metadata


def version() -> str:
    """The version of the installed distribution, ``0+source`` when run from a bare checkout."""
    try:
        return importlib.metadata.version("razor-unlearning")
    except importlib.metadata.PackageNotFoundError:
        return "0+source"
