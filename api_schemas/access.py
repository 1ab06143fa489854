"""What a caller may be allowed to do."""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    """One permission. ``admin`` holds every other within its tenant."""

    UNLEARN_WRITE = "unlearn:write"
    UNLEARN_READ = "unlearn:read"
    UNLEARN_APPROVE = "unlearn:approve"
    PATCH_DOWNLOAD = "patch:download"
    AUDIT_READ = "audit:read"
    ADMIN = "admin"
