from __future__ import annotations

from pathlib import Path

from cli_world import GOLDEN, Run

from patches.digests import checkpoint_digest

PATCH, BASE, PATCHED = (str(GOLDEN / name) for name in ("patch", "base", "patched"))


def test_apply_verify_revert_is_a_round(run: Run, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    applied = run("apply", PATCH, "--checkpoint", BASE, "--out", out)
    assert applied.code == 0
    assert "2 tensors changed" in applied.out
    assert checkpoint_digest(Path(out)) == checkpoint_digest(Path(PATCHED))
    checked = run("verify", PATCH, "--checkpoint", out)
    assert checked.code == 0
    assert "already patched" in checked.out
    assert run("revert", out).code == 0
    assert checkpoint_digest(Path(out)) == checkpoint_digest(Path(BASE))
    again = run("revert", out)
    assert again.code == 1
    assert "no undo data" in again.err


def test_the_wrong_base_is_named_and_nothing_is_written(run: Run, tmp_path: Path) -> None:
    found = run("apply", PATCH, "--checkpoint", PATCHED, "--out", str(tmp_path / "out"))
    assert found.code == 1
    assert found.err.startswith("razor: tensor 'attn.weight' in model.safetensors has sha256")
    assert found.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_verify_says_which_check_failed(run: Run, tmp_path: Path) -> None:
    assert run("verify", PATCH).code == 0
    found = run("verify", BASE)
    assert found.code == 1
    assert "FAIL  manifest" in found.out
    whole = run("verify", PATCH, "--checkpoint", BASE, "--whole")
    assert whole.code == 1  # the golden manifest names no real digest
    assert "FAIL  whole folder" in whole.out


def test_several_patches_go_on_in_order(run: Run, tmp_path: Path) -> None:
    found = run("apply", PATCH, PATCH, "--checkpoint", BASE, "--out", str(tmp_path / "out"))
    assert found.code == 1
    assert "attn.weight" in found.err


def test_a_folder_that_is_not_there_is_one_line(run: Run, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    for command in (
        ("apply", nowhere, "--checkpoint", BASE, "--out", nowhere),
        ("apply", PATCH, "--checkpoint", nowhere, "--out", nowhere),
        ("revert", nowhere),
    ):
        found = run(*command)
        assert found.code == 1
        assert found.err.count("\n") == 1
