"""Reasons for what people decide: always from a list, never free text.

A reason is kept for years in the audit log, which outlives the data that it speaks of: words of
one's own could hold a name.
"""

from __future__ import annotations

from enum import StrEnum


class ApprovalReason(StrEnum):
    """Why a job may run."""

    IDENTITY_VERIFIED = "identity_verified"
    LEGAL_ORDER = "legal_order"
    POLICY = "policy"


class DeclineReason(StrEnum):
    """Why a job may not run."""

    IDENTITY_NOT_VERIFIED = "identity_not_verified"
    NOT_ENTITLED = "not_entitled"
    LEGAL_OBLIGATION = "legal_obligation"
    DUPLICATE = "duplicate"
    WRONG_PICTURES = "wrong_pictures"
    WITHDRAWN = "withdrawn"
    OTHER = "other"


class ExtensionReason(StrEnum):
    """Why a deadline is put off: the two grounds that GDPR 12(3) and the CCPA know."""

    COMPLEXITY = "complexity"
    NUMBER_OF_REQUESTS = "number_of_requests"


class RevocationReason(StrEnum):
    """Why a version of a model is taken back."""

    WRONG_TARGET = "wrong_target"
    REQUEST_WITHDRAWN = "request_withdrawn"
    HARMS_OTHERS = "harms_others"
    NOT_FORGOTTEN = "not_forgotten"
    DEFECT = "defect"
    OTHER = "other"
