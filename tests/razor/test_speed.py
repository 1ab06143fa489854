"""What a job may cost in passes, rows and memory, counted; and the document that says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from razor.bench import speed, speed_document
from razor.bench.scripted import TOO_FAR, Script
from razor.bench.speed import Point, Row
from razor.bench.weighed import REFERENCE
from razor.bench.weighed_clip import PACE
from razor.protocols import Reading

POINTS = [Point(REFERENCE, method, 8, 6) for method in (None, "razor", "slug")]
#: Of a whole module: three jobs, each in a process of its own.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str | None, Row]:
    work = tmp_path_factory.mktemp("speed")
    found = speed.measure(work, POINTS, lambda point: None)
    again = speed.measure(work, POINTS, lambda point: None)
    assert again == found, "what was measured is not measured again"
    return {row["method"]: row for row in found}


def test_a_job_of_scripted_length_makes_so_many_passes_and_no_more(
    rows: dict[str | None, Row],
) -> None:
    cold, warm = rows["razor"]["cold_job"], rows["razor"]["warm_job"]
    updates = 1 + 2 * PACE.forgotten_after + PACE.repaired_after
    assert cold["backward_passes"] == updates + 1, "the retain gradient, once"
    assert warm["backward_passes"] == updates
    # A guard: whoever makes an edit read or look at more than it did has to say so here.
    assert cold["forward_passes"] <= 170
    assert warm["forward_passes"] <= cold["forward_passes"] - 2
    assert cold["edit_rows"]["text forward"] <= 5400
    # Of the text tower: sixteen augmented pictures are looked at for scoring, none for an update.
    assert cold["edit_rows"].get("image forward", 0) <= 32


def test_slug_reads_as_often_as_was_published(rows: dict[str | None, Row]) -> None:
    assert rows["slug"]["cold_job"]["backward_passes"] == 5  # four draws, and the retained pairs
    assert rows["slug"]["warm_job"]["backward_passes"] == 4


def test_a_job_needs_little_more_memory_than_inference(rows: dict[str | None, Row]) -> None:
    plain = rows[None]
    peak = rows["razor"]["cold_job"]["peak_memory_bytes"]
    assert peak <= 1.35 * (plain["peak_memory_bytes"] + plain["unit_bytes"])


def test_a_cold_start_is_told_part_by_part(rows: dict[str | None, Row]) -> None:
    cold = rows[None]["cold"]
    assert list(cold) == ["import", "digest", "load", "retain set"]
    assert all(seconds > 0 for seconds in cold.values())
    assert cold["import"] > 0.2, "the libraries are a part of it"


def test_the_document_says_what_was_measured(rows: dict[str | None, Row], tmp_path: Path) -> None:
    speed_document.write(list(rows.values()), tmp_path, "razor bench speed")
    text = (tmp_path / "speed.md").read_text("utf-8")
    ratio = speed_document.ratio_to_floor(rows["razor"])
    assert f"| {ratio:.2f} |" in text
    assert f"{rows['slug']['cold_job']['seconds']:.1f}" in text
    assert json.loads((tmp_path / "speed.json").read_text("utf-8"))[1]["method"] == "razor"


class Counting:
    """A gauge that counts how often it is read."""

    def __init__(self) -> None:
        self.read_times = self.harm_times = 0

    def read(self, *, whole: bool = False, harm: bool = True) -> Reading:
        import torch

        self.read_times += 1
        return Reading(-1.0, torch.zeros(4), 0.0, 0.0)

    def harm(self) -> float:
        self.harm_times += 1
        return 0.0


def test_the_script_reads_for_real_and_answers_from_the_script() -> None:
    gauge = Counting()
    script = Script(gauge, 6, PACE)
    assert script.read(harm=False).remains(0.05) == 1.0
    harms = []
    for _ in range(6):
        harms.append(script.harm())
        if harms[-1] == 0:
            assert 0 < script.read(harm=False).remains(0.05) < 1
    assert harms == [1.0] * TOO_FAR + [0.0] * (6 - TOO_FAR)
    left = [script.read(harm=False).remains(0.05) for _ in range(PACE.forgotten_after)]
    assert left == sorted(left, reverse=True)
    assert [value > 0 for value in left] == [True] * (PACE.forgotten_after - 1) + [False]
    repaired = [script.harm()]
    for _ in range(PACE.repaired_after):
        script.read(harm=False)
        repaired.append(script.harm())
    assert repaired == sorted(repaired, reverse=True)
    assert repaired[-1] == 0.0 < repaired[-2]
    assert (gauge.read_times, gauge.harm_times) == (
        1 + 6 - TOO_FAR + PACE.forgotten_after + PACE.repaired_after,
        6 + 1 + PACE.repaired_after,
    )
