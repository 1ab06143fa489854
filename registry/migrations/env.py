"""What Alembic runs: the scripts, inside the connection and transaction it was handed."""

from __future__ import annotations

from alembic import context

from registry.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite cannot alter a column: a migration rebuilds the table instead.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
