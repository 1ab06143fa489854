"""The tables. Laws that the database itself can keep are constraints here, not hopes elsewhere."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from api_schemas.events import EventData, EventType
from api_schemas.jobs import JobError, JobStatus, Outcome
from api_schemas.opendsr import Law, Standing
from api_schemas.patches import PatchManifest
from api_schemas.reasons import ExtensionReason, RevocationReason
from api_schemas.reports import Report, Verdict
from api_schemas.requests import WITHOUT_PERSONAL, UnlearnRequest
from api_schemas.shelf import ModelRecord
from api_schemas.tenants import TenantSettings
from api_schemas.webhooks import (
    MAX_URL_CHARACTERS,
    DeliveryFailure,
    DeliveryStatus,
    DisabledReason,
)
from registry.columns import Identifier, Label, Serial, Sha256, Stored, UtcDateTime, word
from registry.subjects import Subjects

#: Stands for "no deadline" where jobs are ordered: databases disagree on where NULL sorts.
NO_DEADLINE = datetime(9999, 12, 31, tzinfo=UTC)


class Base(DeclarativeBase):
    """Names every constraint, so that a migration can name it too."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class ModelRow(Base):
    """A model on the shelf."""

    __tablename__ = "models"

    id: Mapped[str] = mapped_column(Identifier, primary_key=True)
    record: Mapped[ModelRecord] = mapped_column(Stored(ModelRecord))
    digest: Mapped[str] = mapped_column(Label)
    domains: Mapped[list[str]] = mapped_column(JSON)
    methods: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class JobRow(Base):
    """One request and where it stands."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(Identifier, primary_key=True)
    tenant: Mapped[str] = mapped_column(Label)
    principal: Mapped[str] = mapped_column(Label)
    model_id: Mapped[str] = mapped_column(Identifier, ForeignKey("models.id"))
    status: Mapped[JobStatus] = mapped_column(word(JobStatus))
    outcome: Mapped[Outcome | None] = mapped_column(word(Outcome))
    verdict: Mapped[Verdict | None] = mapped_column(word(Verdict))
    phase: Mapped[str] = mapped_column(Label)
    fraction: Mapped[float]
    eta_seconds: Mapped[float | None]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    due_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # The order of the queue, ascending: deadline (or NO_DEADLINE), then the negated priority.
    queue_due: Mapped[datetime] = mapped_column(UtcDateTime)
    queue_rank: Mapped[int]
    attempts: Mapped[int]
    token: Mapped[int] = mapped_column(BigInteger)
    lease_owner: Mapped[str | None] = mapped_column(Label)
    lease_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # When the broker last took a wake-up for this job, and how often it was repeated.
    message_sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    resends: Mapped[int]
    # Of a job that may run only once somebody approved it; all None while it waits for that.
    approval_required: Mapped[bool] = mapped_column(server_default=false())
    approved: Mapped[bool | None]
    decided_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    decision_reason: Mapped[str | None] = mapped_column(Label)
    # The deadline before it was put off; both None while it never was.
    extended_from: Mapped[datetime | None] = mapped_column(UtcDateTime)
    extension_reason: Mapped[ExtensionReason | None] = mapped_column(word(ExtensionReason))
    retries: Mapped[int] = mapped_column(server_default=text("0"))
    error: Mapped[JobError | None] = mapped_column(Stored(JobError))
    # Without its personal part, which lies sealed in ``personal``; rows of before hold it here.
    request: Mapped[UnlearnRequest] = mapped_column(
        Stored(UnlearnRequest, context=WITHOUT_PERSONAL)
    )
    samples: Mapped[list[str]] = mapped_column(JSON)
    probe_samples: Mapped[list[str]] = mapped_column(JSON)
    # Last and deferred: SQLite then never reads its pages for a list of jobs.
    report: Mapped[Report | None] = mapped_column(Stored(Report), deferred=True)

    __table_args__ = (
        CheckConstraint(
            "(status IN ('running', 'canceling')) = (lease_expires_at IS NOT NULL)",
            name="leased_while_claimed",
        ),
        CheckConstraint(
            "(status IN ('succeeded', 'rejected', 'failed', 'canceled'))"
            " = (finished_at IS NOT NULL AND outcome IS NOT NULL)",
            name="finished_when_final",
        ),
        CheckConstraint("fraction >= 0 AND fraction <= 1", name="fraction"),
        Index(
            "uq_jobs_claimed_model_id",
            "model_id",
            unique=True,
            sqlite_where=text("status IN ('running', 'canceling')"),
            postgresql_where=text("status IN ('running', 'canceling')"),
        ),
        Index(
            "ix_jobs_queue",
            "model_id",
            "status",
            "queue_due",
            "queue_rank",
            "created_at",
            "id",
        ),
        Index("ix_jobs_lease", "status", "lease_expires_at"),
        Index("ix_jobs_resend", "status", "message_sent_at"),
        Index("ix_jobs_due", "status", "due_at"),
        Index("ix_jobs_counts", "status", "created_at", "outcome"),
        Index("ix_jobs_page", "tenant", "created_at", "id"),
        Index("ix_jobs_page_status", "tenant", "status", "created_at", "id"),
        Index("ix_jobs_page_model", "tenant", "model_id", "created_at", "id"),
    )


class PersonalRow(Base):
    """What a job holds of people: sealed while it is needed, then keyed hashes only.

    A table of its own: the rows of ``jobs`` hold reports, which a list of jobs must not read.
    """

    __tablename__ = "personal"

    job_id: Mapped[str] = mapped_column(Identifier, ForeignKey("jobs.id"), primary_key=True)
    retention_days: Mapped[int]
    data_key: Mapped[bytes | None]
    sealed: Mapped[bytes | None]
    # None only in rows that were made before there were keys, until they are erased.
    subjects: Mapped[Subjects | None] = mapped_column(Stored(Subjects))
    # From when on nothing can be opened; None while the job has not ended.
    erase_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # When the last picture was deleted.
    erased_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    __table_args__ = (
        CheckConstraint("(data_key IS NULL) = (sealed IS NULL)", name="sealed_with_its_key"),
        CheckConstraint("erased_at IS NULL OR data_key IS NULL", name="erased_without_a_key"),
        Index(
            "ix_personal_due",
            "erase_at",
            sqlite_where=text("erased_at IS NULL"),
            postgresql_where=text("erased_at IS NULL"),
        ),
    )


class OutboxRow(Base):
    """A wake-up that the broker has not taken yet."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    job_id: Mapped[str] = mapped_column(Identifier, ForeignKey("jobs.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)

    # An id is never given out twice, or a late mark_sent would drop another job's message.
    __table_args__ = ({"sqlite_autoincrement": True},)


class IdempotencyRow(Base):
    """The job that a client's key made."""

    __tablename__ = "idempotency"

    tenant: Mapped[str] = mapped_column(Label, primary_key=True)
    principal: Mapped[str] = mapped_column(Label, primary_key=True)
    route: Mapped[str] = mapped_column(Label, primary_key=True)
    key: Mapped[str] = mapped_column(Label, primary_key=True)
    fingerprint: Mapped[str] = mapped_column(Label)
    # Deferred: the key is reserved first, and decides whether there will be a job.
    job_id: Mapped[str] = mapped_column(
        Identifier, ForeignKey("jobs.id", deferrable=True, initially="DEFERRED"), index=True
    )
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class RerunRow(Base):
    """A job that makes anew what another one made before its version was revoked."""

    __tablename__ = "reruns"

    job_id: Mapped[str] = mapped_column(Identifier, ForeignKey("jobs.id"), primary_key=True)
    original_id: Mapped[str] = mapped_column(Identifier, ForeignKey("jobs.id"), unique=True)


class PatchRow(Base):
    """What a job's edit changed; at most one per job that no retry has replaced."""

    __tablename__ = "patches"

    id: Mapped[str] = mapped_column(Identifier, primary_key=True)
    job_id: Mapped[str] = mapped_column(Identifier, ForeignKey("jobs.id"))
    model_id: Mapped[str] = mapped_column(Identifier, ForeignKey("models.id"))
    sha256: Mapped[str] = mapped_column(Sha256)
    bytes: Mapped[int] = mapped_column(BigInteger)
    manifest: Mapped[PatchManifest] = mapped_column(Stored(PatchManifest))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    # Since when a retry of its job stands in its place.
    replaced_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    __table_args__ = (
        Index("ix_patches_job_id", "job_id"),
        Index("ix_patches_sha256", "sha256"),
        Index(
            "uq_patches_current_job_id",
            "job_id",
            unique=True,
            sqlite_where=text("replaced_at IS NULL"),
            postgresql_where=text("replaced_at IS NULL"),
        ),
    )


class DraftRow(Base):
    """A patch file that a job is about to store, or has stored; gone once a patch names it."""

    __tablename__ = "patch_drafts"

    sha256: Mapped[str] = mapped_column(Sha256, primary_key=True)
    job_id: Mapped[str] = mapped_column(Identifier, ForeignKey("jobs.id"), primary_key=True)
    noted_at: Mapped[datetime] = mapped_column(UtcDateTime)


class VersionRow(Base):
    """One version of a model. The constraints make those that are not revoked a line, unforked.

    Numbers only grow and are never used again, so a line that was rebuilt has gaps in them.
    """

    __tablename__ = "versions"

    model_id: Mapped[str] = mapped_column(Identifier, ForeignKey("models.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    parent: Mapped[int | None]
    patch_id: Mapped[str | None] = mapped_column(Identifier, ForeignKey("patches.id"))
    job_id: Mapped[str | None] = mapped_column(Identifier, ForeignKey("jobs.id"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # Why it was revoked itself, or the version whose revocation took it along.
    revoked_reason: Mapped[RevocationReason | None] = mapped_column(word(RevocationReason))
    revoked_with: Mapped[int | None]

    __table_args__ = (
        ForeignKeyConstraint(["model_id", "parent"], ["versions.model_id", "versions.number"]),
        UniqueConstraint("patch_id"),
        UniqueConstraint("job_id"),
        CheckConstraint(
            "(number = 0 AND parent IS NULL AND patch_id IS NULL AND job_id IS NULL)"
            " OR (number > 0 AND parent IS NOT NULL AND parent < number"
            " AND patch_id IS NOT NULL AND job_id IS NOT NULL)",
            name="line",
        ),
        CheckConstraint(
            "(revoked_at IS NULL AND revoked_reason IS NULL AND revoked_with IS NULL)"
            " OR (number > 0 AND revoked_at IS NOT NULL"
            " AND (revoked_reason IS NULL) = (revoked_with IS NOT NULL))",
            name="revoked",
        ),
        Index(
            "uq_versions_line_parent",
            "model_id",
            "parent",
            unique=True,
            sqlite_where=text("revoked_at IS NULL"),
            postgresql_where=text("revoked_at IS NULL"),
        ),
    )


class AuditRow(Base):
    """One line of the audit log. The database lets nobody change or delete one (triggers)."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    actor: Mapped[str] = mapped_column(Label)
    action: Mapped[str] = mapped_column(Label)
    object_type: Mapped[str] = mapped_column(Label)
    object_id: Mapped[str] = mapped_column(Label)
    details: Mapped[dict[str, Any]] = mapped_column(JSON)
    # None for the operator's own lines, which no tenant sees.
    tenant: Mapped[str | None] = mapped_column(Label)
    # Ids may have gaps; the tree's leaves have none.
    leaf_index: Mapped[int] = mapped_column(BigInteger)
    leaf_hash: Mapped[str] = mapped_column(Sha256)

    __table_args__ = (
        UniqueConstraint("leaf_index"),
        Index("ix_audit_object_id_id", "object_id", "id"),
        Index("ix_audit_tenant_leaf_index", "tenant", "leaf_index"),
        {"sqlite_autoincrement": True},
    )


class TenantRow(Base):
    """Somebody who shares this installation with others."""

    __tablename__ = "tenants"

    id: Mapped[str] = mapped_column(Label, primary_key=True)
    settings: Mapped[TenantSettings] = mapped_column(Stored(TenantSettings))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class KeyRow(Base):
    """An API key; of its text only the digest."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(Identifier, primary_key=True)
    # Of the first key of its line of rotations, so that a caller stays the same.
    principal: Mapped[str] = mapped_column(Label)
    tenant: Mapped[str] = mapped_column(Label, ForeignKey("tenants.id"), index=True)
    name: Mapped[str] = mapped_column(Label)
    sha256: Mapped[str] = mapped_column(Sha256)
    scopes: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class AuditNodeRow(Base):
    """The hash of a complete subtree of the log, from level 1 up; never changed either."""

    __tablename__ = "audit_nodes"

    level: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    place: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    hash: Mapped[str] = mapped_column(Sha256)


class EvidenceRow(Base):
    """A job's evidence, made once: ``sha256`` names the blob with all files but the patch."""

    __tablename__ = "evidence"

    job_id: Mapped[str] = mapped_column(Identifier, ForeignKey("jobs.id"), primary_key=True)
    sha256: Mapped[str] = mapped_column(Sha256)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class JobEventRow(Base):
    """One line of a job's history. The number is given out under the lock of the job's row."""

    __tablename__ = "job_events"

    job_id: Mapped[str] = mapped_column(Identifier, ForeignKey("jobs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tenant: Mapped[str] = mapped_column(Label)
    type: Mapped[EventType] = mapped_column(word(EventType))
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    data: Mapped[EventData] = mapped_column(Stored(EventData))

    __table_args__ = (CheckConstraint("number > 0", name="number"),)


class WebhookRow(Base):
    """Where a tenant wants to be told."""

    __tablename__ = "webhooks"

    id: Mapped[str] = mapped_column(Identifier, primary_key=True)
    tenant: Mapped[str] = mapped_column(Label)
    url: Mapped[str] = mapped_column(String(MAX_URL_CHARACTERS))
    # The types to tell about; NULL is every type.
    events: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    disabled_reason: Mapped[DisabledReason | None] = mapped_column(word(DisabledReason))
    # Sealed by a key that the database does not have; the one that counts is the last.
    secrets: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)

    __table_args__ = (Index("ix_webhooks_tenant", "tenant", "created_at", "id"),)


class DeliveryRow(Base):
    """One message to one endpoint. Without a job it is a test."""

    __tablename__ = "webhook_deliveries"

    id: Mapped[str] = mapped_column(Identifier, primary_key=True)
    webhook_id: Mapped[str] = mapped_column(
        Identifier, ForeignKey("webhooks.id", ondelete="CASCADE")
    )
    job_id: Mapped[str | None] = mapped_column(Identifier)
    event_number: Mapped[int | None]
    status: Mapped[DeliveryStatus] = mapped_column(word(DeliveryStatus))
    # Attempts since the first or the last replay, and all of them.
    tries: Mapped[int]
    attempts: Mapped[int]
    # Grows whenever somebody takes the message: only who took it last may say what came of it.
    token: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    # While it is being sent: when it is taken again, should its sender fall silent.
    next_attempt_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    __table_args__ = (
        ForeignKeyConstraint(
            ["job_id", "event_number"], ["job_events.job_id", "job_events.number"]
        ),
        CheckConstraint("(job_id IS NULL) = (event_number IS NULL)", name="event_or_test"),
        CheckConstraint("status = 'pending' OR next_attempt_at IS NULL", name="due_while_pending"),
        Index("ix_webhook_deliveries_due", "status", "next_attempt_at"),
        Index("ix_webhook_deliveries_turn", "webhook_id", "status", "next_attempt_at"),
        Index("ix_webhook_deliveries_page", "webhook_id", "created_at", "id"),
    )


class AttemptRow(Base):
    """One attempt to deliver: what came back, never its body."""

    __tablename__ = "webhook_attempts"

    delivery_id: Mapped[str] = mapped_column(
        Identifier, ForeignKey("webhook_deliveries.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    status_code: Mapped[int | None]
    failure: Mapped[DeliveryFailure | None] = mapped_column(word(DeliveryFailure))

    __table_args__ = (
        CheckConstraint("(status_code IS NULL) = (failure IS NOT NULL)", name="answer_or_failure"),
    )


class SubjectRequestRow(Base):
    """A request that came through the OpenDSR facade: whose id stands for which job.

    Nothing of its body is here but a digest, which is how the same body is known again.
    """

    __tablename__ = "subject_requests"

    tenant: Mapped[str] = mapped_column(Label, primary_key=True)
    subject_request_id: Mapped[str] = mapped_column(Identifier, primary_key=True)
    job_id: Mapped[str] = mapped_column(Identifier, ForeignKey("jobs.id"), unique=True)
    body_sha256: Mapped[str] = mapped_column(Sha256)
    regulation: Mapped[Law] = mapped_column(word(Law))
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expected_at: Mapped[datetime] = mapped_column(UtcDateTime)


class CallbackRow(Base):
    """An address that has yet to be told something, now or later; gone after the last word."""

    __tablename__ = "subject_request_callbacks"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    tenant: Mapped[str] = mapped_column(Label)
    subject_request_id: Mapped[str] = mapped_column(Identifier)
    url: Mapped[str] = mapped_column(Text)
    # The names of its headers: 1 = OpenGDPR, 2 = OpenDSR.
    version: Mapped[int]
    told_standing: Mapped[Standing] = mapped_column(word(Standing))
    told_due_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    attempts: Mapped[int]
    next_attempt_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)

    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant", "subject_request_id"],
            ["subject_requests.tenant", "subject_requests.subject_request_id"],
        ),
        {"sqlite_autoincrement": True},
    )
