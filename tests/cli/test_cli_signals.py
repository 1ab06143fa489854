"""Being told to stop, at any moment."""

from __future__ import annotations

import os
import signal
import threading
import time

from cli.up import SignalEvent, stop_signals


def test_a_signal_in_the_middle_of_a_wait_does_not_wait_for_itself() -> None:
    """A handler that set a plain Event here would hang for ever: the lock is held below it."""
    stopping = SignalEvent()
    with stopping._cond:
        assert not stopping._cond.acquire(blocking=False)
        stopping.set()
    assert stopping.is_set()
    assert stopping.wait(10)


def test_many_signals_end_the_wait_soon() -> None:
    with stop_signals() as stopping:
        ours = os.getpid()
        for delay in (0.05, 0.06, 0.07):
            threading.Timer(delay, os.kill, (ours, signal.SIGTERM)).start()
        started = time.monotonic()
        assert stopping.wait(20)
        assert time.monotonic() - started < 10
        time.sleep(0.1)


def test_an_event_that_nobody_sets_runs_into_its_timeout() -> None:
    assert not SignalEvent().wait(0.05)
