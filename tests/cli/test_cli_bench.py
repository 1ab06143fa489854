from __future__ import annotations

from pathlib import Path

from cli_world import Run


def test_a_document_of_finished_runs_needs_finished_grids(run: Run, tmp_path: Path) -> None:
    found = run("bench", "diffusion", "--finished", "--work", str(tmp_path / "none"))
    assert found.code == 2
    assert "have not all been run" in found.err
    assert not (tmp_path / "none").exists()
