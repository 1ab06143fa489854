"""A typed client of the service: submit, watch, fetch, check digests. httpx and schemas only."""

from __future__ import annotations

from client.api import Client
from client.errors import (
    ClientError,
    DigestError,
    ProblemError,
    ServiceUnreachable,
    UnsafeArchive,
    WaitTimeout,
)

__all__ = [
    "Client",
    "ClientError",
    "DigestError",
    "ProblemError",
    "ServiceUnreachable",
    "UnsafeArchive",
    "WaitTimeout",
]
