from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cli_world import GOLDEN, MOMENT, Run, Service

from api_schemas.reasons import RevocationReason
from api_schemas.shelf import GateThresholds, ModelList, ModelView, VersionList, VersionView
from cli import shipped
from patches.digests import checkpoint_digest
from registry import models, shelving
from registry.database import Database

RECORD = """
id = "toy"
family = "clip"
checkpoint = "weights"
retain.folder = "keep"
prompts.name = ["a picture of {}"]
prompts.scene = ["at the {}"]
"""
VIEW = ModelView(
    id="toy",
    family="clip",
    digest="sha256:" + "0" * 64,
    domains=["name"],
    methods=["razor"],
    thresholds=GateThresholds(),
    latest_version=1,
    created_at=MOMENT,
)


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """A record beside its checkpoint and its retain set."""
    shutil.copytree(GOLDEN / "base", tmp_path / "home/weights")
    (tmp_path / "home/keep").mkdir()
    (tmp_path / "home/keep/index.csv").write_text("path,name,caption,scene\na.png,A,c,s\n")
    path = tmp_path / "home/toy.toml"
    path.write_text(RECORD)
    return path


def test_a_record_is_registered_with_absolute_paths(run: Run, record: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    digest = checkpoint_digest(record.parent / "weights")
    for _ in range(2):  # again changes nothing
        found = run("models", "add", str(record), "--data", str(data))
        assert found.code == 0
        assert digest in found.out
    database = Database(f"sqlite:///{data / 'razor.db'}")
    with database.transaction() as session:
        (model,) = models.all_models(session)
    database.close()
    assert model.digest == digest
    assert model.record.checkpoint == str(record.parent / "weights")
    assert model.record.retain.folder == str(record.parent / "keep")
    assert model.domains == ("name", "scene")
    assert "razor" in model.methods


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (("family", "famly"), 2, "famly"),
        (('"clip"', '"klip"'), 2, "family"),
        (('id = "toy"', "id = toy"), 2, "TOML"),
        (('"weights"', '"nowhere"'), 1, "no such folder"),
        (('"keep"', '"nowhere"'), 1, "index.csv"),
        (("prompts.scene", "prompts.style"), 1, "no column style"),
        (('id = "toy"', f'id = "toy"\ndigest = "sha256:{"1" * 64}"'), 1, "the record says"),
    ],
)
def test_a_record_that_does_not_hold_is_refused(
    run: Run, record: Path, tmp_path: Path, change: tuple[str, str], code: int, words: str
) -> None:
    record.write_text(RECORD.replace(*change))
    found = run("models", "add", str(record), "--data", str(tmp_path / "data"))
    assert found.code == code
    assert words in found.err
    assert found.err.count("\n") == 1


def test_an_id_that_is_taken_is_refused(run: Run, record: Path, tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    assert run("models", "add", str(record), "--data", data).code == 0
    record.write_text(RECORD + "[thresholds]\nforget_accuracy_max = 1.0\n")
    assert run("models", "add", str(record), "--data", data).code == 1


def test_the_shelf_is_listed_and_shown(run: Run, service: Service) -> None:
    service.set("GET", "/models", ModelList(items=[VIEW]))
    service.set("GET", "/models/toy", VIEW)
    versions = [
        VersionView(
            model="toy",
            number=number,
            parent=None if number == 0 else 0,
            patch_id=None,
            job_id=None,
            created_at=MOMENT,
            revoked_at=MOMENT if number else None,
            revoked_reason=RevocationReason.DEFECT if number else None,
            revoked_with=None,
        )
        for number in (0, 1)
    ]
    service.set("GET", "/models/toy/versions", VersionList(items=versions))
    assert "toy" in run("models", "list").out
    assert ModelList.model_validate_json(run("models", "list", "--json").out).items == [VIEW]
    shown = run("models", "show", "toy").out
    assert "forget_accuracy_max 5" in shown
    base, first = shown.splitlines()[-2:]
    assert (base.split()[0], first.split()[0]) == ("0", "1")
    assert (base.split()[-1], first.split()[-1]) == ("-", "defect")


def test_the_shipped_model_is_there_and_its_record_holds(tmp_path: Path) -> None:
    keep = tmp_path / "reference/retain"
    keep.mkdir(parents=True)
    (keep / "index.csv").write_text("path,name,caption,scene,accessory,style\n")
    record = shipped.record(tmp_path)
    shelving.check_index(record)
    assert checkpoint_digest(Path(record.checkpoint)).startswith("sha256:")
    assert (Path(record.checkpoint) / "open_clip_model.safetensors").is_file()


def test_no_picture_is_seen_in_two_roles() -> None:
    seeds = [0, shipped.RETAIN_SEED, shipped.SAMPLES_SEED, shipped.UNSEEN_SEED]
    assert len(set(seeds)) == len(seeds)
