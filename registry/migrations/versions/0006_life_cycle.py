"""Approval, extensions, retries, and versions that can be revoked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Written out, not imported: this script must do tomorrow what it did when it was released.
IDENTIFIER = sa.String(64)
LABEL = sa.String(255)
WORD = sa.String(32)
MOMENT = sa.DateTime(timezone=True)
JOB_COLUMNS = (
    ("approval_required", sa.Boolean(), sa.false()),
    ("approved", sa.Boolean(), None),
    ("decided_at", MOMENT, None),
    ("decision_reason", LABEL, None),
    ("extended_from", MOMENT, None),
    ("extension_reason", WORD, None),
    ("retries", sa.Integer(), sa.text("0")),
)
REVOKED_COLUMNS = (("revoked_at", MOMENT), ("revoked_reason", WORD), ("revoked_with", sa.Integer()))
LINE = (
    "(number = 0 AND parent IS NULL AND patch_id IS NULL AND job_id IS NULL)"
    " OR (number > 0 AND parent IS NOT NULL AND parent {}"
    " AND patch_id IS NOT NULL AND job_id IS NOT NULL)"
)
REVOKED = (
    "(revoked_at IS NULL AND revoked_reason IS NULL AND revoked_with IS NULL)"
    " OR (number > 0 AND revoked_at IS NOT NULL"
    " AND (revoked_reason IS NULL) = (revoked_with IS NOT NULL))"
)
JOBS = sa.table(
    "jobs", *(sa.column(name) for name in ("status", "outcome", "phase", "finished_at"))
)
PATCHES = sa.table("patches", sa.column("replaced_at"))
VERSIONS = sa.table("versions", sa.column("revoked_at"))
EVENTS = sa.table(
    "job_events",
    sa.column("job_id", IDENTIFIER),
    sa.column("number", sa.Integer()),
    sa.column("type", WORD),
    sa.column("data", sa.JSON()),
)
WEBHOOKS = sa.table("webhooks", sa.column("id", IDENTIFIER), sa.column("events", sa.JSON()))
#: Words of this release in histories, and what the older one has for them.
OLDER_TYPES = {"job.approved": "job.requeued", "job.retried": "job.requeued"}
OLDER_WORDS = {"awaiting_approval": "queued", "declined": "canceled"}


def upgrade() -> None:
    for name, kind, default in JOB_COLUMNS:
        # A column of its own at the end: SQLite adds it without writing the table anew.
        nullable = default is None
        op.add_column("jobs", sa.Column(name, kind, nullable=nullable, server_default=default))
    op.create_table(
        "reruns",
        sa.Column("job_id", IDENTIFIER, nullable=False),
        sa.Column("original_id", IDENTIFIER, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_reruns_job_id"),
        sa.ForeignKeyConstraint(["original_id"], ["jobs.id"], name="fk_reruns_original_id"),
        sa.PrimaryKeyConstraint("job_id", name="pk_reruns"),
        sa.UniqueConstraint("original_id", name="uq_reruns_original_id"),
    )
    with op.batch_alter_table("patches") as patches:
        patches.add_column(sa.Column("replaced_at", MOMENT, nullable=True))
        patches.drop_constraint("uq_patches_job_id", type_="unique")
    op.create_index("ix_patches_job_id", "patches", ["job_id"])
    _unique_while("uq_patches_current_job_id", "patches", ["job_id"], "replaced_at IS NULL")
    with op.batch_alter_table("versions", copy_from=_versions("= number - 1")) as versions:
        for name, kind in REVOKED_COLUMNS:
            versions.add_column(sa.Column(name, kind, nullable=True))
        versions.drop_constraint(op.f("ck_versions_line"), type_="check")
        versions.create_check_constraint(op.f("ck_versions_line"), LINE.format("< number"))
        versions.create_check_constraint(op.f("ck_versions_revoked"), REVOKED)
    columns = ["model_id", "parent"]
    _unique_while("uq_versions_line_parent", "versions", columns, "revoked_at IS NULL")


def downgrade() -> None:
    """A job that awaits approval is canceled: the older release would have no place for it.

    Its history speaks of a queue instead, and a decline is a cancellation. A webhook that waited
    for nothing but newer events waits for all. Candidates that a retry replaced are dropped.
    Raises where a version was revoked, because the older tables would take it for a part of the
    line.
    """
    connection = op.get_bind()
    revoked = sa.select(sa.func.count()).where(VERSIONS.c.revoked_at.is_not(None))
    if connection.scalar(revoked):
        raise RuntimeError("versions were revoked; the older tables cannot say so")
    waiting = JOBS.update().where(JOBS.c.status == "awaiting_approval")
    connection.execute(
        waiting.values(status="canceled", outcome="canceled", finished_at=sa.func.now())
    )
    declined = JOBS.update().where(JOBS.c.outcome == "declined")
    connection.execute(declined.values(outcome="canceled"))
    phase = JOBS.update().where(JOBS.c.phase == "awaiting_approval")
    connection.execute(phase.values(phase=OLDER_WORDS["awaiting_approval"]))
    _tell_in_older_words(connection)
    connection.execute(PATCHES.delete().where(PATCHES.c.replaced_at.is_not(None)))
    op.drop_index("uq_versions_line_parent", "versions")
    with op.batch_alter_table("versions", copy_from=_versions("< number", revocable=True)) as table:
        table.drop_constraint(op.f("ck_versions_revoked"), type_="check")
        table.drop_constraint(op.f("ck_versions_line"), type_="check")
        table.create_check_constraint(op.f("ck_versions_line"), LINE.format("= number - 1"))
        for name, _ in REVOKED_COLUMNS:
            table.drop_column(name)
    op.drop_index("uq_patches_current_job_id", "patches")
    op.drop_index("ix_patches_job_id", "patches")
    with op.batch_alter_table("patches") as patches:
        patches.create_unique_constraint("uq_patches_job_id", ["job_id"])
        patches.drop_column("replaced_at")
    op.drop_table("reruns")
    for name, _, _ in reversed(JOB_COLUMNS):
        op.drop_column("jobs", name)


def _tell_in_older_words(connection: sa.Connection) -> None:
    text = sa.cast(EVENTS.c.data, sa.Text())
    concerned = sa.or_(
        EVENTS.c.type.in_(OLDER_TYPES), *(text.contains(word) for word in OLDER_WORDS)
    )
    for row in connection.execute(sa.select(EVENTS).where(concerned)).all():
        words = {name: row.data.get(name) for name in ("status", "outcome", "phase")}
        data = row.data | {name: OLDER_WORDS.get(word, word) for name, word in words.items()}
        this = (EVENTS.c.job_id == row.job_id) & (EVENTS.c.number == row.number)
        kind = OLDER_TYPES.get(row.type, row.type)
        connection.execute(EVENTS.update().where(this).values(type=kind, data=data))
    for hook in connection.execute(sa.select(WEBHOOKS).where(WEBHOOKS.c.events.is_not(None))).all():
        older = [kind for kind in hook.events or () if kind not in OLDER_TYPES]
        if hook.events and older != hook.events:
            change = WEBHOOKS.update().where(WEBHOOKS.c.id == hook.id)
            connection.execute(change.values(events=older or sa.null()))


def _unique_while(name: str, table: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, unique=True, sqlite_where=where, postgresql_where=where)


def _versions(parent: str, *, revocable: bool = False) -> sa.Table:
    """The table as it is: SQLite writes it anew, and cannot be asked for its check constraints."""
    revoked = [sa.Column(name, kind, nullable=True) for name, kind in REVOKED_COLUMNS]
    check = sa.CheckConstraint(REVOKED, name=op.f("ck_versions_revoked"))
    return sa.Table(
        "versions",
        sa.MetaData(),
        sa.Column("model_id", IDENTIFIER, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("parent", sa.Integer(), nullable=True),
        sa.Column("patch_id", IDENTIFIER, nullable=True),
        sa.Column("job_id", IDENTIFIER, nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        *(revoked if revocable else []),
        *([check] if revocable else []),
        sa.CheckConstraint(LINE.format(parent), name=op.f("ck_versions_line")),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_versions_model_id"),
        sa.ForeignKeyConstraint(
            ["model_id", "parent"],
            ["versions.model_id", "versions.number"],
            name="fk_versions_model_id_parent",
        ),
        sa.ForeignKeyConstraint(["patch_id"], ["patches.id"], name="fk_versions_patch_id"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_versions_job_id"),
        sa.PrimaryKeyConstraint("model_id", "number", name="pk_versions"),
        sa.UniqueConstraint("patch_id", name="uq_versions_patch_id"),
        sa.UniqueConstraint("job_id", name="uq_versions_job_id"),
    )
