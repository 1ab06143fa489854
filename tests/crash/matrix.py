"""One cell: a job, a process that stands still, a kill, and what the laws find afterwards."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sqlalchemy import select

from registry.tables import PatchRow
from tests.crash import laws
from tests.crash.cells import Cell, Victim
from tests.crash.stack import Stack

#: How long whoever stood still may go on beside the dead before those are started again.
ALONE_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Found:
    """What was wrong after a cell; nothing, in every list, is what is wanted."""

    lost: list[str]
    doubled: list[str]
    corrupt: list[str]
    seconds: float

    @property
    def wrong(self) -> list[str]:
        """All of it."""
        return [*self.lost, *self.doubled, *self.corrupt]


def undisturbed(stack: Stack) -> Found:
    """A run without a kill. Its patch is what every other run's is compared with."""
    began = time.monotonic()
    job_id = stack.post(model := stack.another_model())
    found = _judged(stack, model, job_id, began)
    with stack.database.reading() as session:
        digest = session.scalar(select(PatchRow.sha256).where(PatchRow.job_id == job_id))
    assert digest is not None, found.wrong
    stack.digest = digest
    return found


def run(stack: Stack, cell: Cell) -> Found:
    """The kill, and what came of it. Raises ``AssertionError`` when the point is not reached."""
    assert stack.digest, "run undisturbed first"
    began = time.monotonic()
    stack.until(lambda: len(stack.worker.children()) == 1, "the worker has its child")
    # Every run makes the same bytes: with the blob there, no file would be written and renamed.
    stack.blobs.delete(stack.digest)
    model = stack.another_model()
    stack.arm(cell.point, cell.role)
    with ThreadPoolExecutor(1) as pool:
        posted = pool.submit(stack.post, model)
        stack.until(lambda: stack.stands(cell.point, cell.role), f"{cell}: the point is reached")
        stack.kill(cell.victim)
        # The file of whoever was killed there tells nobody anything any more.
        stack.go_on(cell.point, cell.role)
        time.sleep(0 if cell.victim is Victim.CHILD else ALONE_SECONDS)
        stack.restart(cell.victim)
        job_id = posted.result()
    return _judged(stack, model, job_id, began)


def _judged(stack: Stack, model: str, job_id: str, began: float) -> Found:
    try:
        stack.until(lambda: stack.final(job_id), "the job has ended")
    except AssertionError as error:
        return Found([str(error)], [], [], time.monotonic() - began)
    lost = laws.lost(stack, model, job_id)
    doubled = laws.doubled(stack, model, job_id)
    stack.until(lambda: stack.read(lambda: laws.quiet(stack)), "nothing is on its way")
    # Again, because a second delivery may only now have come to nothing, or to something.
    lost += laws.lost(stack, model, job_id)
    corrupt = [*laws.corrupt(stack, job_id), *laws.leftovers(stack, job_id)]
    return Found(lost, doubled, corrupt, time.monotonic() - began)
