"""The role that service and workers connect as: a real one, of a real server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from registry_examples import KEYS, accept, at, claim, shelve, succeed
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from registry import audit, drafts, jobs, personal, roles, schema
from registry.database import Database, Limits
from registry.errors import MigrationForbidden, RoleMissing, RoleTooStrong

pytestmark = pytest.mark.postgres
PASSWORD = "not-a-secret"


@dataclass(frozen=True)
class Place:
    """A schema of its own; addresses of its owner and of the role that works in it."""

    owner: str
    role: str
    app: str

    def as_owner(self, *statements: str) -> None:
        engine = create_engine(self.owner)
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement.format(role=self.role)))
        engine.dispose()


@pytest.fixture
def place(postgres_url: str) -> Iterator[Place]:
    role = f"razor_app_{uuid.uuid4().hex[:12]}"
    app = make_url(postgres_url).set(username=role, password=PASSWORD)
    made = Place(postgres_url, role, app.render_as_string(hide_password=False))
    made.as_owner(f"CREATE ROLE {{role}} LOGIN PASSWORD '{PASSWORD}'")
    yield made
    made.as_owner("DROP OWNED BY {role}", "DROP ROLE {role}")


def migrate(url: str) -> None:
    database = Database(url, KEYS)
    database.migrate()
    database.close()


def prepared(place: Place) -> Database:
    migrate(place.owner)
    roles.grant(make_url(place.owner), place.role)
    return Database(place.app, KEYS)


def refused(database: Database, statement: str) -> bool:
    """Whether the server says that the role may not."""
    try:
        with database.transaction() as session:
            session.execute(text(statement))
    except ProgrammingError as error:
        return getattr(error.orig, "sqlstate", None) == "42501"
    return False


def test_the_role_sees_a_job_through_and_cannot_touch_what_was_written(place: Place) -> None:
    database = prepared(place)
    database.migrate()  # nothing to do, so nothing is forbidden
    shelve(database, "clip-a")
    with database.transaction() as session:
        job = accept(session)
    with database.transaction() as session:
        running = claim(session)
        assert running is not None
    with database.transaction() as session:
        jobs.draft(session, running.id, running.token, "d" * 64, now=at(0))
    with database.transaction() as session:
        succeed(session, running)
        assert drafts.drop(session, "d" * 64, before=at(1))
    with database.transaction() as session:
        assert jobs.get(session, job.id).status.is_final
        over = personal.due(session, limit=10, now=running.created_at)
        personal.note_erased(session, over, running.created_at)
        lines = audit.size(session)
    assert lines > 3
    for table in roles.APPEND_ONLY:
        for statement in (
            f"DELETE FROM {table}",
            f"TRUNCATE {table}",
            f"ALTER TABLE {table} DISABLE TRIGGER USER",
            f"DROP TRIGGER {table}_append_only ON {table}",
            f"DROP TABLE {table}",
        ):
            assert refused(database, statement), statement
    for statement in (
        "UPDATE audit SET actor = 'nobody'",
        "UPDATE audit_nodes SET hash = ''",
        "UPDATE alembic_version SET version_num = '0001'",
        "CREATE TABLE mine (id integer)",
        "ALTER TABLE jobs ADD COLUMN mine integer",
        "DROP TABLE jobs",
        "TRUNCATE jobs",
        "SET session_replication_role = replica",
        "CREATE OR REPLACE FUNCTION audit_append_only() RETURNS trigger LANGUAGE sql AS ''",
    ):
        assert refused(database, statement), statement
    with database.transaction() as session:
        assert audit.size(session) == lines
    database.close()
    # The control: what the role may not, the owner could.
    place.as_owner("ALTER TABLE audit DISABLE TRIGGER USER", "DELETE FROM audit")


def test_granting_again_takes_back_what_was_given_meanwhile(place: Place) -> None:
    database = prepared(place)
    place.as_owner("GRANT UPDATE, DELETE, TRUNCATE ON audit TO {role}")
    assert not refused(database, "SELECT has_table_privilege('audit', 'DELETE')")
    roles.grant(make_url(place.owner), place.role)
    assert refused(database, "DELETE FROM audit WHERE false")
    database.close()


@pytest.mark.parametrize(
    ("give", "take", "strength"),
    [
        ("ALTER ROLE {role} SUPERUSER", "ALTER ROLE {role} NOSUPERUSER", "is a superuser"),
        ("GRANT UPDATE ON audit TO PUBLIC", "REVOKE UPDATE ON audit FROM PUBLIC", "change audit"),
        ("ALTER TABLE outbox OWNER TO {role}", "DROP TABLE outbox", "owner"),
    ],
)
def test_a_role_that_can_do_more_is_refused(
    place: Place, give: str, take: str, strength: str
) -> None:
    migrate(place.owner)
    place.as_owner(give)
    with pytest.raises(RoleTooStrong) as caught:
        roles.grant(make_url(place.owner), place.role)
    assert any(strength in found for found in caught.value.strengths)
    place.as_owner(take)


def test_a_role_that_is_not_there_is_named(place: Place) -> None:
    migrate(place.owner)
    with pytest.raises(RoleMissing) as caught:
        roles.grant(make_url(place.owner), "nobody-of-this-name")
    assert caught.value.role == "nobody-of-this-name"


def test_an_upgrade_is_the_owners(place: Place) -> None:
    """A release that finds older tables says what to do; it does not half change them."""
    database = prepared(place)
    schema.downgrade(make_url(place.owner), "-1")
    with pytest.raises(MigrationForbidden, match="razor prepare"):
        database.migrate()
    migrate(place.owner)
    database.migrate()
    database.close()


def test_statements_and_idle_transactions_end_in_time(postgres_url: str) -> None:
    impatient = Database(postgres_url, limits=Limits(statement_seconds=0.2))
    with pytest.raises(OperationalError, match="statement timeout"), impatient.transaction() as s:
        s.execute(text("SELECT pg_sleep(5)"))
    with impatient.transaction() as session:
        shown = session.scalar(text("SHOW idle_in_transaction_session_timeout"))
        path = session.scalar(text("SHOW search_path"))
    assert shown == "200ms"
    assert path in postgres_url, "the address's own options are kept"
    impatient.close()


def test_a_pool_is_as_large_as_it_is_set(postgres_url: str) -> None:
    from sqlalchemy.exc import TimeoutError as PoolTimeout

    small = Database(postgres_url, limits=Limits(1, 0, 0.1, 5))
    with small.transaction() as session:
        session.execute(text("SELECT 1"))
        with pytest.raises(PoolTimeout):
            small.ping()
    small.ping()
    small.close()
