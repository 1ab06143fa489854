"""What the role of service and workers may do in PostgreSQL: all but the log's past and the shape.

The owner of the tables migrates and grants; the role that runs every day reads and writes rows,
adds lines to the audit log, and can neither change nor remove one, nor the trigger that guards it.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import URL, Connection, NullPool, create_engine, text

from registry.errors import RoleMissing, RoleTooStrong

#: The tables that only grow.
APPEND_ONLY: Final = ("audit", "audit_nodes")
#: Idempotent, and complete: what was granted before is taken back first.
GRANTS: Final = (
    "REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {role}",
    "REVOKE ALL ON ALL SEQUENCES IN SCHEMA {schema} FROM {role}",
    "REVOKE ALL ON SCHEMA {schema} FROM {role}",
    "GRANT USAGE ON SCHEMA {schema} TO {role}",
    "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}",
    *(f"REVOKE UPDATE, DELETE ON {{schema}}.{table} FROM {{role}}" for table in APPEND_ONLY),
    "REVOKE INSERT, UPDATE, DELETE ON {schema}.alembic_version FROM {role}",
)
#: What the role could do all the same: by itself, through PUBLIC, or through roles it is part of.
_STRENGTHS: Final = (
    ("is a superuser", "SELECT rolsuper FROM pg_roles WHERE rolname = :role"),
    ("may create tables in the schema", "SELECT has_schema_privilege(:role, :schema, 'CREATE')"),
    (
        "is the owner of a table, or part of the owner",
        "SELECT coalesce(bool_or(pg_has_role(:role, relowner, 'MEMBER')), false) FROM pg_class"
        " WHERE relnamespace = CAST(:schema AS regnamespace) AND relkind IN ('r', 'S')",
    ),
    *(
        (
            f"may change {table}",
            f"SELECT has_table_privilege(:role, format('%I.{table}', CAST(:schema AS text)),"
            " 'UPDATE, DELETE, TRUNCATE, TRIGGER')",
        )
        for table in APPEND_ONLY
    ),
)


def grant(url: URL, role: str) -> None:
    """The role may do what service and workers do, and nothing more; call it after a migration.

    ``url`` is the owner's. Raises ``RoleMissing``, and ``RoleTooStrong`` where something else lets
    the role do more: then nothing was changed.
    """
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        if (
            connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :r"), {"r": role})
            is None
        ):
            raise RoleMissing(role)
        schema = connection.scalar(text("SELECT current_schema()"))
        quoted = connection.dialect.identifier_preparer.quote_identifier
        for statement in GRANTS:
            connection.exec_driver_sql(statement.format(schema=quoted(schema), role=quoted(role)))
        if strengths := _strengths(connection, role, schema):
            raise RoleTooStrong(role, strengths)


def _strengths(connection: Connection, role: str, schema: str) -> tuple[str, ...]:
    names = {"role": role, "schema": schema}
    return tuple(
        strength for strength, query in _STRENGTHS if connection.scalar(text(query), names)
    )
