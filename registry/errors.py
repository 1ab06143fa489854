"""What can go wrong in the registry.

RegistryError
├── JobNotFound
├── JobFinished
├── LeaseLost
├── IllegalTransition
├── StaleParent
├── InvalidCursor
├── IdempotencyConflict
├── ModelNotFound
├── ModelExists
├── VersionNotFound
├── PatchNotFound
├── TenantNotFound
├── TenantExists
├── KeyNotFound
├── KeyEnded
├── LineNotFound
├── TreeSizeInvalid
├── BlobMissing
├── InvalidDigest
├── WebhookNotFound
├── WebhookDisabled
├── TooManyWebhooks
├── DeliveryNotFound
├── KeyFileInvalid
├── KeysMissing
├── SealBroken
└── PersonalDataGone

The first paragraph of a class's docstring is its message and says what to do next. Attributes
hold ids, states and digests only: no name, prompt or picture is ever part of an error.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from api_schemas.jobs import JobStatus


class RegistryError(Exception):
    """The registry could not do this; look at the class of the error for what to do next."""

    def __str__(self) -> str:
        paragraph = (inspect.getdoc(type(self)) or "").split("\n\n")[0]
        return " ".join(paragraph.split())


class JobNotFound(RegistryError):
    """There is no such job; check the id, and that it belongs to your tenant."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id


class JobFinished(RegistryError):
    """The job is finished and cannot be canceled; read its result instead."""

    def __init__(self, job_id: str, status: JobStatus) -> None:
        super().__init__(job_id, status)
        self.job_id = job_id
        self.status = status


class LeaseLost(RegistryError):
    """The claim on the job is no longer the current one; stop the run and discard its result."""

    def __init__(self, job_id: str, token: int) -> None:
        super().__init__(job_id, token)
        self.job_id = job_id
        self.token = token


class IllegalTransition(RegistryError):
    """A job cannot move between these two states; see the table in registry.transitions."""

    def __init__(self, old: JobStatus, new: JobStatus) -> None:
        super().__init__(old, new)
        self.old = old
        self.new = new


class StaleParent(RegistryError):
    """The patch stands on another model or version than the latest; run the job again."""

    def __init__(self, model_id: str, expected: int, found: int) -> None:
        super().__init__(model_id, expected, found)
        self.model_id = model_id
        self.expected = expected
        self.found = found


class InvalidCursor(RegistryError):
    """The cursor is not one that this service gave out; start again without a cursor."""


class IdempotencyConflict(RegistryError):
    """The idempotency key was used for another request; repeat that one or take a new key."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id


class ModelNotFound(RegistryError):
    """There is no such model on the shelf; list the models, or have an operator register it."""

    def __init__(self, model_id: str) -> None:
        super().__init__(model_id)
        self.model_id = model_id


class ModelExists(RegistryError):
    """A model with this id and another record is on the shelf; register it under a new id."""

    def __init__(self, model_id: str) -> None:
        super().__init__(model_id)
        self.model_id = model_id


class VersionNotFound(RegistryError):
    """The model has no such version; list its versions."""

    def __init__(self, model_id: str, number: int) -> None:
        super().__init__(model_id, number)
        self.model_id = model_id
        self.number = number


class PatchNotFound(RegistryError):
    """There is no such patch; check the id, and that it belongs to your tenant."""

    def __init__(self, patch_id: str) -> None:
        super().__init__(patch_id)
        self.patch_id = patch_id


class TenantNotFound(RegistryError):
    """There is no such tenant; razor tenants list shows them, razor tenants add makes one."""

    def __init__(self, tenant: str) -> None:
        super().__init__(tenant)
        self.tenant = tenant


class TenantExists(RegistryError):
    """There is a tenant of this id already; change it with razor tenants set."""

    def __init__(self, tenant: str) -> None:
        super().__init__(tenant)
        self.tenant = tenant


class KeyNotFound(RegistryError):
    """There is no key with this id; razor keys list shows them, with their ids."""

    def __init__(self, key_id: str) -> None:
        super().__init__(key_id)
        self.key_id = key_id


class KeyEnded(RegistryError):
    """The key is revoked or expired, so nothing can replace it; create a new one instead."""

    def __init__(self, key_id: str) -> None:
        super().__init__(key_id)
        self.key_id = key_id


class LineNotFound(RegistryError):
    """There is no such line in the audit log; GET /audit lists those of your tenant."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


class TreeSizeInvalid(RegistryError):
    """The log has no tree of that size; take sizes from checkpoints, the smaller one first."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class BlobMissing(RegistryError):
    """The stored bytes are gone; restore the blob folder from its backup."""

    def __init__(self, digest: str) -> None:
        super().__init__(digest)
        self.digest = digest


class InvalidDigest(RegistryError):
    """A blob is named by 64 lower-case hexadecimal digits; pass the digest that put returned."""


class WebhookNotFound(RegistryError):
    """There is no such webhook; check the id, and that it belongs to your tenant."""

    def __init__(self, webhook_id: str) -> None:
        super().__init__(webhook_id)
        self.webhook_id = webhook_id


class WebhookDisabled(RegistryError):
    """Nothing is sent to this webhook while it is disabled; enable it, then send again."""

    def __init__(self, webhook_id: str) -> None:
        super().__init__(webhook_id)
        self.webhook_id = webhook_id


class TooManyWebhooks(RegistryError):
    """Your tenant has as many webhooks as it may have; delete one, then add the new one."""


class DeliveryNotFound(RegistryError):
    """The webhook has no such delivery; list its deliveries."""

    def __init__(self, delivery_id: str) -> None:
        super().__init__(delivery_id)
        self.delivery_id = delivery_id


class KeyFileInvalid(RegistryError):
    """The key file is damaged or others may read it; restore it from its backup, with mode 600."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path


class KeysMissing(RegistryError):
    """The database was opened without the installation's keys; pass those of its key file."""


class SealBroken(RegistryError):
    """What was sealed does not open, for its key is gone or another; restore the key file."""


class PersonalDataGone(RegistryError):
    """The job's pictures and its target's name are deleted, or sealed; send the request again.

    They are deleted when a job has ended and its tenant keeps nothing, or not any more. An
    unfinished job cannot read them where the installation's key file is another than it was.
    """

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id
