from __future__ import annotations

import csv
from pathlib import Path

import pytest
from cli_world import Run

from cli import demo
from cli.failures import Refused

OTHERS = ["Oskar Brill", "a teapot"]


def counts(target: int, others: int) -> dict[str, list[int]]:
    return {demo.TARGET: [target, 40], **{name: [others, 10] for name in OTHERS}}


def test_forgotten_and_kept_passes() -> None:
    demo.check(counts(39, 10), counts(2, 10), OTHERS)


@pytest.mark.parametrize(
    ("base", "patched", "words"),
    [
        (counts(1, 10), counts(0, 10), "do not know"),
        (counts(39, 10), counts(3, 10), "not forgotten: 7.5"),
        (counts(39, 10), counts(0, 9), "fell by 10.0"),
    ],
)
def test_anything_less_is_a_no(
    base: dict[str, list[int]], patched: dict[str, list[int]], words: str
) -> None:
    with pytest.raises(Refused, match=words):
        demo.check(base, patched, OTHERS)


def test_a_folder_with_something_in_it_is_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    found = run("demo", "--data", str(tmp_path))
    assert found.code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_pictures_aside_are_of_everybody_and_none_is_a_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "SAMPLES", 2)
    monkeypatch.setattr(demo, "UNSEEN_TARGET", 3)
    monkeypatch.setattr(demo, "UNSEEN_OTHERS", 1)
    desk = demo.Desk(tmp_path, tmp_path, client=None)  # type: ignore[arg-type]
    demo._draw(desk)
    with (desk.unseen / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    shown = [row["name"] for row in rows]
    assert shown.count(demo.TARGET) == 3
    assert len(set(shown)) == 29
    unseen = {(desk.unseen / row["path"]).read_bytes() for row in rows}
    samples = {path.read_bytes() for path in desk.samples.glob("*.png")}
    assert len(samples) == 2
    assert len(unseen) == len(rows)
    assert not unseen & samples
