"""Who waits for rows to change shares one question with everybody else who waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence

import pytest

from service import watching
from service.watching import Watch

MANY = 300


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "POLL_SECONDS", 0.02)


class Rows:
    """What there is to be seen, and how often and for how much somebody looked."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {f"job_{number}": 1 for number in range(MANY)}
        self.asked: list[int] = []
        self.down = False

    def look(self, keys: Sequence[str]) -> Mapping[str, int]:
        self.asked.append(len(keys))
        if self.down:
            raise ConnectionError
        return {key: self.values[key] for key in keys if key in self.values}


async def waiters(watch: Watch[int], seconds: float = 20.0) -> list[asyncio.Task[bool]]:
    tasks = [
        asyncio.create_task(watch.changed(f"job_{number}", 1, seconds)) for number in range(MANY)
    ]
    await asyncio.sleep(0.1)
    return tasks


def test_hundreds_who_wait_ask_one_question_a_round() -> None:
    async def run() -> None:
        rows = Rows()
        tasks = await waiters(Watch(rows.look, threading.Event()))
        assert 1 <= len(rows.asked) <= 7, "rounds, whatever the number of those who wait"
        assert set(rows.asked) == {MANY}
        rows.values["job_7"] = 2
        assert await asyncio.wait_for(tasks[7], 5) is True
        assert not any(task.done() for task in tasks[:7] + tasks[8:])
        for task in tasks:
            task.cancel()

    asyncio.run(run())


def test_nobody_asks_once_nobody_waits() -> None:
    async def run() -> None:
        rows = Rows()
        watch = Watch(rows.look, threading.Event())
        assert await watch.changed("job_1", 1, 0.1) is False
        await asyncio.sleep(0.1)
        asked = len(rows.asked)
        await asyncio.sleep(0.2)
        assert len(rows.asked) == asked
        rows.values["job_1"] = 5
        assert await watch.changed("job_1", 1, 5.0) is True, "and again for the next one"

    asyncio.run(run())


def test_a_change_before_the_waiting_is_not_missed() -> None:
    async def run() -> None:
        rows = Rows()
        rows.values["job_1"] = 9
        assert await Watch(rows.look, threading.Event()).changed("job_1", 1, 5.0) is True

    asyncio.run(run())


def test_who_waits_lives_through_an_outage() -> None:
    async def run() -> None:
        rows = Rows()
        rows.down = True
        tasks = await waiters(Watch(rows.look, threading.Event()))
        assert not any(task.done() for task in tasks)
        rows.values = dict.fromkeys(rows.values, 2)
        rows.down = False
        assert all(await asyncio.gather(*tasks))

    asyncio.run(run())


def test_winding_down_sends_everybody_home() -> None:
    async def run() -> None:
        rows, stopping = Rows(), threading.Event()
        tasks = await waiters(Watch(rows.look, stopping))
        stopping.set()
        assert not any(await asyncio.wait_for(asyncio.gather(*tasks), 5))

    asyncio.run(run())
