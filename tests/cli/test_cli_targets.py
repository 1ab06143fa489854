from __future__ import annotations

from pathlib import Path

import pytest
from cli_world import Run, Service, job

from api_schemas.jobs import JobStatus
from cli import targets
from cli.failures import Usage

TEXT = """
[[target]]
name = "Mara Venn"
aliases = ["M. Venn"]
descriptions = ["green glasses"]
samples = ["mara"]

[[target]]
name = "a teapot"
kind = "object"
samples = ["pots", "one.png"]
probe_samples = "more"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    for name in ("mara/1.png", "mara/2.png", "mara/3.png", "pots/1.jpg", "pots/2.jpg", "one.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(f"picture {name}".encode())
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "far.webp").write_bytes(b"picture more")
    file = tmp_path / "people.toml"
    file.write_text(TEXT, encoding="utf-8")
    return file


def test_a_file_of_targets_is_one_request(run: Run, service: Service, file: Path) -> None:
    service.set("POST", "/unlearn", job(JobStatus.QUEUED))
    assert run("submit", "--model", "toy", "--targets-file", str(file)).code == 0
    body = service.asked[0].content
    assert b'"target":' not in body
    assert b'"aliases":["M. Venn"],"descriptions":["green glasses"],"samples":3' in body
    assert b'"kind":"object","name":"a teapot"' in body
    assert b'"samples":3,"probe_samples":1' in body
    names = ("mara/1.png", "mara/2.png", "mara/3.png", "pots/1.jpg", "pots/2.jpg", "one.png")
    places = [body.index(f"picture {name}".encode()) for name in (*names, "more")]
    assert places == sorted(places)


@pytest.mark.parametrize(
    "extra",
    [
        ("--name", "Mara Venn"),
        ("--kind", "style"),
        ("--alias", "M. V."),
        ("--describe", "green glasses"),
        ("--samples", "."),
        ("--probe-samples", "."),
    ],
)
def test_the_file_says_everything_about_its_targets(
    run: Run, service: Service, file: Path, extra: tuple[str, ...]
) -> None:
    found = run("submit", "--model", "toy", "--targets-file", str(file), *extra)
    assert found.code == 2
    assert "--targets-file" in found.err
    assert not service.asked


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[[target]]", "[target", "TOML"),
        ("[[target]]", "[[targets]]", "[[target]]"),
        (TEXT, "", "at least one"),
        (TEXT, "target = [1]", "no table"),
        (TEXT, 'model = "toy"\n' + TEXT, "nothing else"),
        ('["mara"]', "3", "samples of target 1"),
        ('["mara"]', "[3]", "samples of target 1"),
        ('["mara"]', '["nowhere"]', "nowhere"),
        ('["mara"]', '["one.png"]', "targets.0.samples"),
        ("a teapot", "m. venn", "targets.1"),
        ("kind =", "kidn =", "targets.1.kidn"),
    ],
)
def test_a_wrong_file_is_a_clear_no_without_names(
    run: Run, service: Service, file: Path, old: str, new: str, words: str
) -> None:
    assert old in TEXT
    file.write_text(TEXT.replace(old, new), encoding="utf-8")
    found = run("submit", "--model", "toy", "--targets-file", str(file))
    assert found.code == 2
    assert words in found.err
    assert "Mara" not in found.err
    assert "venn" not in found.err.lower()
    assert not service.asked


def test_paths_are_relative_to_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent.parent)
    found = targets.read_file(Path(file.parent.name) / file.name)
    assert [path.name for path in found.samples[:3]] == ["1.png", "2.png", "3.png"]


def test_without_a_file_there_is_one_target(file: Path) -> None:
    mara = file.parent / "mara"
    found = targets.read(targets.Single("Mara Venn", None, None, [], [], [mara], []), None)
    assert set(found.fields) == {"target"}
    assert len(found.samples) == 3
    with pytest.raises(Usage):
        targets.read(targets.Single("Mara Venn", None, None, [], [], [], []), None)
