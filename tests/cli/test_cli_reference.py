from __future__ import annotations

from pathlib import Path

from cli_world import Run


def test_pictures_are_drawn_by_name_and_number(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "photos"
    found = run("reference", "pictures", str(out), "--name", "Mara Venn", "--per-name", "2")
    assert found.code == 0
    assert "wrote 2 pictures" in found.out
    assert len(list(out.glob("*.png"))) == 2


def test_a_stranger_cannot_be_drawn(run: Run, tmp_path: Path) -> None:
    found = run("reference", "pictures", str(tmp_path / "x"), "--name", "Nobody")
    assert found.code == 1
    assert found.err.count("\n") == 1
    assert not (tmp_path / "x").exists()
