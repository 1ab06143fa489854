"""SIGKILL at the worst moments: nothing accepted is lost, doubled or damaged.

The whole matrix is ``python -m tests.crash``; here is a part of it that has every point and every
victim.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import update

from api_schemas.jobs import Outcome
from registry.failpoints import Point
from registry.tables import DraftRow, JobRow
from tests.crash import cells, document, laws, matrix, stack
from tests.crash.cells import Backend, Victim
from tests.crash.servers import Missing
from tests.crash.stack import Stack
from tests.e2e.conftest import unavailable


@pytest.fixture(
    scope="module",
    params=[
        Backend.EMBEDDED,
        pytest.param(Backend.PRODUCTION, marks=[pytest.mark.postgres, pytest.mark.redis]),
    ],
)
def alive(request: pytest.FixtureRequest, draw_png: Callable[[str, int], bytes]) -> Iterator[Stack]:
    """A stack that has done one job undisturbed."""
    try:
        with stack.running(request.param, draw_png) as found:
            assert matrix.undisturbed(found).wrong == []
            yield found
    except Missing as error:
        unavailable(str(error))


@pytest.mark.timeout(900)
def test_nothing_is_lost_doubled_or_damaged_by_a_kill(alive: Stack) -> None:
    found = {str(cell): matrix.run(alive, cell).wrong for cell in cells.COMPACT[alive.backend]}
    assert {cell: wrong for cell, wrong in found.items() if wrong} == {}
    check_that_the_laws_can_fail(alive)


def check_that_the_laws_can_fail(alive: Stack) -> None:
    """The control: what is broken by hand is found, by the law that it breaks."""
    first, model = "clip-1", f"clip-{alive.models}"
    job_id, other = alive.post(model), alive.post(first)
    assert laws.lost(alive, model, other) == []
    assert laws.doubled(alive, model, other) != [], "another model's job"
    assert laws.corrupt(alive, job_id) == []
    got = alive.receiver.got
    got.append(replace(got[-1], body=got[0].body))
    found = laws.corrupt(alive, job_id)
    assert found == ["a webhook-id came with two contents", "an event came under two webhook-ids"]
    got.pop()
    nobodys = alive.blobs.put(b"nobody's")
    (alive.settings.work_folder / "half").touch()
    with alive.database.transaction() as session:
        session.add(DraftRow(sha256="0" * 64, job_id=job_id, noted_at=datetime.now(UTC)))
    assert laws.leftovers(alive, job_id, patience_seconds=3) == [
        f"left behind: {nobodys}",
        f"left behind: {'0' * 64}",
    ]
    with alive.blobs.open(alive.digest) as file:
        path = Path(file.name)
    path.write_bytes(path.read_bytes() + b"x")
    assert len(laws.corrupt(alive, job_id)) == 1
    path.unlink()
    assert len(laws.corrupt(alive, job_id)) == 1
    with alive.database.transaction() as session:
        session.execute(update(JobRow).where(JobRow.id == job_id).values(outcome=Outcome.ERROR))
    assert len(laws.lost(alive, model, job_id)) == 1


def test_the_table_covers_every_point_and_says_what_it_leaves_out() -> None:
    assert {point for point, _ in cells.STANDS} == set(Point)
    for backend in Backend:
        every = set(cells.cells(backend))
        left_out = {victim for other, victim in cells.LEFT_OUT if other is backend}
        assert len(every) == len(cells.STANDS) * (len(Victim) - len(left_out))
        assert set(cells.COMPACT[backend]) <= every
        assert {cell.victim for cell in cells.COMPACT[backend]} == set(Victim) - left_out
    compact = [cell for backend in Backend for cell in cells.COMPACT[backend]]
    assert {(cell.point, cell.role) for cell in compact} == set(cells.STANDS)


def test_the_document_counts_what_was_found(tmp_path: Path) -> None:
    tallies = document.empty([Backend.EMBEDDED])
    bad, good = list(tallies)[:2]
    tallies[bad].add(matrix.Found(["gone", "late"], [], ["left behind"], 1.0))
    tallies[bad].add(matrix.Found([], [], [], 1.0))
    tallies[good].add(matrix.Found([], [], [], 1.0))
    document.write(tmp_path, tallies, repeats=2, spent_seconds=3.0)
    text = (tmp_path / "crash_matrix.md").read_text()
    assert "3 kills, 0 to 2 of each cell" in text
    assert "**1 lost, 0 doubled, 1 corrupt.**" in text
    assert "| before rename | front | API | 2 | 1 | 0 | 1 |" in text
    rows = json.loads((tmp_path / "crash_matrix.json").read_text())["rows"]
    assert rows[0]["wrong"] == ["gone", "late", "left behind"]
