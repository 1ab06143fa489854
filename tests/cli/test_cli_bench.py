from __future__ import annotations

from pathlib import Path

import pytest
from cli_world import Run


def test_a_document_of_finished_runs_needs_finished_grids(run: Run, tmp_path: Path) -> None:
    found = run("bench", "diffusion", "--finished", "--work", str(tmp_path / "none"))
    assert found.code == 2
    assert "have not all been run" in found.err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("family", ["clip", "vlm", "speed"])
@pytest.mark.parametrize("text", ["{}", "no JSON", '[{"suite": "clip"}]'])
def test_a_file_without_rows_is_refused_before_anything_runs(
    run: Run, tmp_path: Path, family: str, text: str
) -> None:
    file = tmp_path / "earlier.json"
    file.write_text(text)
    found = run("bench", family, "--earlier", str(file), "--work", str(tmp_path / "none"))
    assert found.code == 2
    assert "--earlier" in found.err
    assert "the file holds no rows" in found.err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--size", "vit-b-33"), "clip has no size vit-b-33; take one of reference, vit-s-32"),
        (("--size", "sd-1.5"), "clip has no size sd-1.5"),
        (("--family", "vlm", "--size", "vit-b-32"), "vlm has no size vit-b-32"),
        (("--family", "gan"), "unknown family gan; take one of clip, diffusion, vlm"),
    ],
)
def test_what_cannot_be_weighed_is_refused_before_anything_runs(
    run: Run, tmp_path: Path, given: tuple[str, str], told: str
) -> None:
    found = run("bench", "speed", *given, "--work", str(tmp_path / "none"))
    assert found.code == 2
    assert told in " ".join(found.err.replace("│", " ").split())
    assert not (tmp_path / "none").exists()
