"""What a job on a generator or a vision-language model may cost, counted, on reduced data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from razor.bench import random_weights, shapes_diffusion, shapes_vlm, speed, speed_document, weighed
from razor.bench.speed import Row
from razor.bench.weighed import REFERENCE
from razor.errors import OutOfMemory
from razor.families import diffusion_fit, vlm_fit

FAMILIES = ("diffusion", "vlm")
#: Guards: whoever makes an edit read or look at more than it did has to say so here. Counted when
#: they were written: 49 and 163 passes, 42 and 7452 rows read, 28 and 3044 with a gradient.
PASSES = {"diffusion": 51, "vlm": 171}
READ = {"diffusion": ("latent", 44, 30), "vlm": ("token", 7800, 3200)}
RETAIN = {"diffusion": 4, "vlm": 3}  # batches of the retain stock
#: Of a whole module: three jobs, each in a process of its own.
pytestmark = pytest.mark.timeout(900)

Rows = dict[str | None, Row]


@pytest.fixture(scope="module", params=FAMILIES)
def rows(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    work = tmp_path_factory.mktemp("speed")
    points = speed.points(request.param, [REFERENCE], quick=True)
    return {row["method"]: row for row in speed.measure(work, points, lambda point: None)}


def test_a_job_on_less_data_makes_so_many_passes_and_no_more(rows: Rows) -> None:
    cold, warm = rows["razor"]["cold_job"], rows["razor"]["warm_job"]
    family = rows["razor"]["family"]
    updates = 1 + 2 * weighed.of(family).REDUCED_PACE.updates
    assert warm["backward_passes"] == updates
    assert cold["backward_passes"] == updates + RETAIN[family], "the retain gradient, once"
    assert cold["forward_passes"] <= PASSES[family]
    assert warm["forward_passes"] <= cold["forward_passes"] - RETAIN[family]
    kind, read, learnt = READ[family]
    assert 0 < cold["edit_rows"][f"{kind} forward"] <= read
    assert 0 < cold["edit_rows"][f"{kind} gradient"] <= learnt


def test_slug_reads_as_often_as_was_published(rows: Rows) -> None:
    assert rows["slug"]["warm_job"]["backward_passes"] == 4
    cold = rows["slug"]["cold_job"]["backward_passes"]
    assert cold == 4 + RETAIN[rows["slug"]["family"]]


def test_an_edit_behind_the_vision_tower_never_asks_it_again(rows: Rows) -> None:
    edited = rows["razor"]["cold_job"]["edit_rows"]
    assert "picture forward" not in edited
    if rows["razor"]["family"] == "vlm":
        assert rows["slug"]["cold_job"]["edit_rows"]["picture forward"] > 0, "it is counted at all"


def test_a_job_needs_little_more_memory_than_inference(rows: Rows) -> None:
    plain = rows[None]
    peak = rows["razor"]["cold_job"]["peak_memory_bytes"]
    assert peak <= 1.35 * (plain["peak_memory_bytes"] + plain["unit_bytes"])


def test_the_document_holds_every_family(rows: Rows, tmp_path: Path) -> None:
    found = list(rows.values())
    clip = speed.read(Path("docs/results/speed.json"))
    every = speed.merged(clip, found)
    assert speed.merged(every, found) == every, "the same points are not there twice"
    speed_document.write(every, tmp_path, "razor bench speed")
    text = (tmp_path / "speed.md").read_text("utf-8")
    assert "the shipped CLIP" in text
    assert f"{rows['slug']['cold_job']['seconds']:.1f}" in text
    assert f"{speed_document.ratio_to_floor(rows['razor']):.2f}" in text


def test_less_data_is_for_the_process_that_asked_alone(rows: Rows) -> None:
    assert (diffusion_fit.FORGET_ROWS, vlm_fit.RETAIN_ROWS) == (32, 64)


@pytest.mark.parametrize(
    ("shapes", "size"), [(shapes_diffusion, "sd-3-medium"), (shapes_vlm, "llava-1.5-7b")]
)
def test_what_memory_does_not_hold_is_refused_before_anything_is_written(
    shapes: Any, size: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    needed = shapes.need(size).bytes
    monkeypatch.setattr(random_weights, "available_bytes", lambda: needed - 1)
    with pytest.raises(OutOfMemory, match=rf"{size} needs about \d+ GB .* are free here"):
        shapes.write(tmp_path / "none", size)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(random_weights, "available_bytes", lambda: needed)
    shapes.must_fit(size)


@pytest.mark.parametrize(
    ("shapes", "size", "weights"),
    [
        (shapes_diffusion, "sd-1.5", 1.066e9),  # U-Net 860 M, text encoder 123 M, autoencoder 84 M
        (shapes_vlm, "llava-1.5-7b", 7.063e9),
    ],
)
def test_shapes_are_as_large_as_the_models_that_they_stand_for(
    shapes: Any, size: str, weights: float
) -> None:
    assert shapes.need(size).weights / 4 == pytest.approx(weights, rel=0.001)


def test_a_shortened_run_is_not_weighed_against_a_search_of_published_length(rows: Rows) -> None:
    def asked(razor: Row) -> list[str]:
        return [each[0] for each in speed_document._checks(razor, rows["slug"], rows[None])]

    razor = rows["razor"]
    assert not any("SLUG" in what for what in asked(razor))
    assert "edit / floor" in asked(razor)
    assert any("SLUG" in what for what in asked({**razor, "reduced": False}))
