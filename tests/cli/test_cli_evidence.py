"""``razor evidence`` and ``razor verify`` of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cli_world import GOLDEN, JOB, Run, Service

sys.path.insert(0, str(Path(__file__).parents[1] / "evidence"))

from evidence_world import Made, make

from evidence import archive, names
from evidence.verify import NOT_PROVEN
from patches.segments import Literal

ROOT = Path(__file__).parent.parent.parent
FOREIGN = {"razor", "registry", "service", "worker", "client", "torch", "sqlalchemy", "fastapi"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("evidence"))


def tar_of(made: Made) -> bytes:
    kept = Literal(archive.head(JOB, made.files))
    values = Literal((made.folder / names.PATCH).read_bytes())
    return b"".join(archive.whole(JOB, kept, values).iter_range())


def test_evidence_is_fetched_and_checked(
    run: Run, service: Service, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    service.set("GET", f"/jobs/{JOB}/evidence", tar_of(made))
    fetched = run("evidence", JOB)
    assert (fetched.code, fetched.err) == (0, "")
    folder = f"evidence-{JOB}"
    assert f"razor verify {folder}" in fetched.out
    pem = tmp_path / "key.pem"
    pem.write_bytes(made.key.public.pem)
    checked = run("verify", folder, "--key", str(pem), "--base", str(GOLDEN / "base"))
    assert checked.code == 0
    assert "FAIL" not in checked.out
    assert checked.out.count("ok  ") == checked.out.count("means:") == 11
    for sentence in NOT_PROVEN:
        assert sentence in checked.out
    (tmp_path / folder / names.REPORT).write_bytes(b"{}")
    broken = run("verify", folder)
    assert broken.code == 1
    assert "FAIL  certificate's files" in broken.out
    assert broken.err.count("\n") == 1


def test_a_key_is_for_evidence(run: Run, made: Made) -> None:
    found = run("verify", str(GOLDEN / "patch"), "--key", str(made.folder / names.KEY))
    assert found.code == 2
    assert "--key is for evidence" in found.err


def test_checking_in_a_process_of_its_own_needs_no_service(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "evidence.tar"
    path.write_bytes(tar_of(made))
    code = (
        "import sys; sys.argv = ['razor', 'verify', sys.argv[1]]\n"
        "from cli.main import app\n"
        "try:\n    app()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print('MODULES', *sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    text, _, modules = done.stdout.rpartition("MODULES ")
    assert "Not proven:" in text
    assert {"evidence", "patches", "model_signing"} <= set(modules.split())
    assert not set(modules.split()) & FOREIGN
