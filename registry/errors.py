"""What can go wrong in the registry.

RegistryError
├── JobNotFound
├── JobFinished
├── JobUnfinished
├── JobSucceeded
├── SubjectRequestCancelled
├── PicturesGone
├── NotAwaitingApproval
├── OwnRequest
├── NotExtendable
├── AlreadyExtended
├── DeadlinePassed
├── ExtensionOutOfRange
├── LeaseLost
├── IllegalTransition
├── StaleParent
├── InvalidCursor
├── IdempotencyConflict
├── ModelNotFound
├── ModelExists
├── RecordUnfit
├── VersionNotFound
├── VersionRevoked
├── BaseNotRevocable
├── VersionWithdrawn
├── RevocationBlocked
├── PatchNotFound
├── TenantNotFound
├── TenantExists
├── KeyNotFound
├── KeyEnded
├── LineNotFound
├── TreeSizeInvalid
├── BlobMissing
├── InvalidDigest
├── StoreFailed
│   ├── BucketMissing
│   ├── StoreDenied
│   └── StoreUnreachable
├── StoreLibraryMissing
├── MigrationForbidden
├── RoleMissing
├── RoleTooStrong
├── WebhookNotFound
├── WebhookDisabled
├── TooManyWebhooks
├── DeliveryNotFound
├── KeyFileInvalid
├── KeysMissing
├── SealBroken
├── PersonalDataGone
├── SubjectRequestNotFound
├── SubjectRequestConflict
└── SubjectRequestNotPending

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
    """The job is finished, so nothing about it can be changed any more; read its result instead."""

    def __init__(self, job_id: str, status: JobStatus) -> None:
        super().__init__(job_id, status)
        self.job_id = job_id
        self.status = status


class JobUnfinished(RegistryError):
    """The job is not finished, so there is nothing to run again; wait for its end, or cancel it."""


class JobSucceeded(RegistryError):
    """The job succeeded, so there is nothing to run again; post a new request instead."""


class SubjectRequestCancelled(RegistryError):
    """The platform that asked was told that its request is cancelled; it must send a new one."""


class PicturesGone(RegistryError):
    """Pictures of the job are missing, so it cannot run again; post the request anew with them."""


class NotAwaitingApproval(RegistryError):
    """The job does not wait for this decision; read where it stands, and cancel it to stop it."""


class OwnRequest(RegistryError):
    """Nobody decides on a request of their own; somebody else must approve or decline it."""


class NotExtendable(RegistryError):
    """No law sets this job's deadline, so there is none to extend; its due_at is your own."""


class AlreadyExtended(RegistryError):
    """The deadline was extended before, and the law allows that once; it stays where it is."""


class DeadlinePassed(RegistryError):
    """The law's deadline is over, and an extension must come before it; finish the job first."""


class ExtensionOutOfRange(RegistryError):
    """The new deadline must come after the present one, and no later than the law allows.

    The law allows three calendar months from receipt in all (GDPR), 90 days (CCPA).
    """


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


class RecordUnfit(RegistryError):
    """The record and the files that it names do not fit together; correct one of the two.

    ``field`` is the record's that is wrong; ``fault`` says what exactly, for an operator's eyes:
    it may hold paths.
    """

    def __init__(self, field: str, fault: str) -> None:
        super().__init__(field, fault)
        self.field = field
        self.fault = fault


class VersionNotFound(RegistryError):
    """The model has no such version; list its versions."""

    def __init__(self, model_id: str, number: int) -> None:
        super().__init__(model_id, number)
        self.model_id = model_id
        self.number = number


class VersionRevoked(RegistryError):
    """The version was revoked and is no longer handed out; take the model's latest version."""

    def __init__(self, model_id: str, number: int) -> None:
        super().__init__(model_id, number)
        self.model_id = model_id
        self.number = number


class BaseNotRevocable(RegistryError):
    """Version 0 is the model as it was registered; only what was made of it can be revoked."""


class VersionWithdrawn(RegistryError):
    """The version went with an earlier one already; cancel its new job, or revoke what that made.

    ``GET /jobs/{id}`` of the job that made it names the new one as ``result.rerun``.
    """


class RevocationBlocked(RegistryError):
    """A later version is another tenant's and could not be made again; ask the operator.

    Its pictures are gone, so revoking this version would bring a person back whom another tenant
    had the model forget. The operator can do it with `razor models revoke --data`.
    """


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


class StoreFailed(RegistryError):
    """The object store did not do what it was asked; look at its log, then try again."""


class BucketMissing(StoreFailed):
    """The object store has no such bucket; correct RAZOR_BLOBS_URL, or make it: razor prepare."""


class StoreDenied(StoreFailed):
    """The object store refuses us; check the credentials and what they may do with the bucket.

    They are boto3's own: AWS_SHARED_CREDENTIALS_FILE, or AWS_ACCESS_KEY_ID and its secret.
    """


class StoreUnreachable(StoreFailed):
    """The object store does not answer; check that it runs, and AWS_ENDPOINT_URL_S3."""


class StoreLibraryMissing(RegistryError):
    """RAZOR_BLOBS_URL needs boto3; install razor-unlearning[s3], or unset it to use a folder."""


class MigrationForbidden(RegistryError):
    """The tables are of another release and this role may not change them; run razor prepare.

    With the address of the tables' owner as RAZOR_DATABASE_URL, before the service starts.
    """


class RoleMissing(RegistryError):
    """PostgreSQL has no such role; create it with CREATE ROLE ... LOGIN, then prepare again."""

    def __init__(self, role: str) -> None:
        super().__init__(role)
        self.role = role


class RoleTooStrong(RegistryError):
    """The role can do more than the service needs; take that away, or use another role.

    ``strengths`` say what it can do, and the message names them.
    """

    def __init__(self, role: str, strengths: tuple[str, ...]) -> None:
        super().__init__(role, strengths)
        self.role = role
        self.strengths = strengths


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


class SubjectRequestNotFound(RegistryError):
    """There is no request with this subject_request_id; check it, and whose key you use."""

    def __init__(self, subject_request_id: str) -> None:
        super().__init__(subject_request_id)
        self.subject_request_id = subject_request_id


class SubjectRequestConflict(RegistryError):
    """The subject_request_id was used with another body; repeat that one, or make a new id."""

    def __init__(self, subject_request_id: str) -> None:
        super().__init__(subject_request_id)
        self.subject_request_id = subject_request_id


class SubjectRequestNotPending(RegistryError):
    """Only a pending request can be cancelled; this one has begun or ended, so read its status."""

    def __init__(self, subject_request_id: str) -> None:
        super().__init__(subject_request_id)
        self.subject_request_id = subject_request_id
