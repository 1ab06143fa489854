"""Models, their versions and patches."""

from __future__ import annotations

import pytest
from registry_examples import (
    DIGEST,
    PRINCIPAL,
    START,
    TENANT,
    accept,
    at,
    claim,
    new_patch,
    record,
    request,
    shelve,
    succeed,
)
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from api_schemas.shelf import ModelRecord
from registry import audit, ids, models, patches
from registry.database import Database
from registry.errors import ModelExists, ModelNotFound, PatchNotFound, VersionNotFound
from registry.tables import VersionRow


def add(
    session: Session,
    added: ModelRecord | None = None,
    *,
    digest: str = DIGEST,
    methods: tuple[str, ...] = ("razor",),
) -> models.Model:
    return models.add(
        session,
        added or record(),
        digest=digest,
        domains=["name", "scene"],
        methods=methods,
        principal=PRINCIPAL,
        now=START,
    )


def edit(database: Database, model: str) -> str:
    with database.transaction() as session:
        accept(session, request(model))
        job = claim(session)
        assert job is not None
        return succeed(session, job, at(1)).patch_id or ""


def test_a_model_is_kept_as_it_was_added(database: Database) -> None:
    asked = record().model_copy(update={"prompts": {"name": ("a picture of {}", "{} é")}})
    with database.transaction() as session:
        model = add(session, asked)
        assert models.get(session, "clip-a") == model
    assert (model.record, model.digest, model.created_at) == (asked, DIGEST, START)
    assert (model.domains, model.methods, model.latest_version) == (
        ("name", "scene"),
        ("razor",),
        0,
    )


def test_adding_again_changes_nothing(database: Database) -> None:
    with database.transaction() as session:
        model = add(session)
        assert add(session) == model
        assert len(models.versions(session, "clip-a")) == 1
        assert [entry.action for entry in audit.entries(session)] == ["model.added"]


def test_a_later_release_may_offer_more_methods(database: Database) -> None:
    with database.transaction() as session:
        add(session)
        add(session, methods=("razor", "slug"))
        assert models.get(session, "clip-a").methods == ("razor", "slug")


def test_an_id_never_changes_its_meaning(database: Database) -> None:
    with database.transaction() as session:
        model = add(session)
        with pytest.raises(ModelExists):
            add(session, record().model_copy(update={"checkpoint": "/models/other"}))
        with pytest.raises(ModelExists):
            add(session, digest="sha256:" + "f" * 64)
        assert models.get(session, "clip-a") == model


def test_models_are_listed_by_id(database: Database) -> None:
    with database.transaction() as session:
        assert models.all_models(session) == []
    shelve(database, "clip-b", "clip-a")
    with database.transaction() as session:
        found = models.all_models(session)
        assert [model.record.id for model in found] == ["clip-a", "clip-b"]
        assert found[0] == models.get(session, "clip-a")


def test_what_is_not_there_is_not_found(database: Database) -> None:
    shelve(database, "clip-a")
    with database.transaction() as session:
        for ask in (
            lambda: models.get(session, "clip-z"),
            lambda: models.versions(session, "clip-z"),
            lambda: models.lineage(session, "clip-z", 0),
        ):
            with pytest.raises(ModelNotFound):
                ask()
        with pytest.raises(PatchNotFound):
            patches.get(session, ids.new_patch_id())
        for number in (-1, 1):
            with pytest.raises(VersionNotFound):
                models.lineage(session, "clip-a", number)


def test_a_lineage_is_every_patch_up_to_its_version(database: Database) -> None:
    shelve(database, "clip-a", "clip-b")
    made = [edit(database, "clip-a") for _ in range(3)]
    edit(database, "clip-b")
    with database.transaction() as session:
        for number in range(4):
            line = models.lineage(session, "clip-a", number)
            assert [patch.id for patch in line] == made[:number]
            assert [patch.version for patch in line] == list(range(1, number + 1))
        assert models.get(session, "clip-a").latest_version == 3
        versions = models.versions(session, "clip-a")
    assert [version.patch_id for version in versions] == [None, *made]
    assert [version.parent for version in versions] == [None, 0, 1, 2]
    assert versions[0].job_id is None


def test_another_tenants_patch_is_not_there(database: Database) -> None:
    shelve(database, "clip-a")
    patch_id = edit(database, "clip-a")
    with database.transaction() as session:
        assert patches.get(session, patch_id, TENANT) == patches.get(session, patch_id)
        with pytest.raises(PatchNotFound):
            patches.get(session, patch_id, "tenant-b")


@pytest.mark.parametrize(
    ("number", "parent", "fits"),
    [
        (2, 1, True),
        (1, 0, False),
        (3, 2, False),
        (2, 0, False),
        (0, None, False),
        (2, None, False),
    ],
)
def test_the_database_itself_keeps_the_line(
    database: Database, number: int, parent: int | None, fits: bool
) -> None:
    # Version 1 exists, and there is a patch that has made none: only 2 on 1 can follow.
    shelve(database, "clip-a")
    edit(database, "clip-a")
    with database.transaction() as session:
        accept(session)
        job = claim(session)
        assert job is not None
        patch = new_patch()
        patches.store(session, patch, job_id=job.id, model_id="clip-a", now=START)

    def insert_version() -> None:
        with database.transaction() as session:
            values = {"model_id": "clip-a", "number": number, "parent": parent}
            made = {"patch_id": patch.id, "job_id": job.id, "created_at": START}
            session.execute(insert(VersionRow).values(**values, **made))

    if fits:
        insert_version()
    else:
        with pytest.raises(IntegrityError):
            insert_version()


def test_a_job_has_at_most_one_patch(database: Database) -> None:
    shelve(database, "clip-a")
    patch_id = edit(database, "clip-a")

    def store_again() -> None:
        with database.transaction() as session:
            first = patches.get(session, patch_id)
            again = patches.NewPatch(ids.new_patch_id(), "e" * 64, 1, first.manifest)
            patches.store(session, again, job_id=first.job_id, model_id="clip-a", now=START)

    with pytest.raises(IntegrityError):
        store_again()
