"""Fronts and workers as processes that start at once.

They are forked from a server that has imported everything before: a process that is killed some
hundred times would spend its life in importing torch. What it does from then on is its own.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import runpy
import sys
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Final

import psutil

PRELOADED: Final = ["celery.apps.worker", "worker.app", "worker.runner", "service.app"]
#: Read on import, so the server that imports has to know.
EARLY: Final = {"REMAP_SIGTERM": "SIGQUIT", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def context() -> multiprocessing.context.ForkServerContext:
    """Where processes come from; the server behind it starts with the first of them."""
    os.environ.update(EARLY)
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(PRELOADED)
    return found


class Ours:
    """One ``python -m service`` or ``python -m worker``: killed, and started again."""

    def __init__(self, module: str, log: Path, environment: Mapping[str, str]) -> None:
        self._module, self._log, self._environment = module, log, dict(environment)
        self._process: ForkServerProcess | None = None
        #: Processor seconds of what was started here and is dead.
        self.spent_seconds = 0.0

    def start(self) -> None:
        """It runs; what it still does to be ready is for others to wait for."""
        self._process = context().Process(
            target=_main, args=(self._module, str(self._log), self._environment)
        )
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process is not None
        assert self._process.pid is not None
        return self._process.pid

    def children(self) -> list[psutil.Process]:
        """The processes that it forked and that live."""
        try:
            return psutil.Process(self.pid).children()
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        """SIGKILL to this process alone, and it is dead; its children see to themselves."""
        children = self.children()
        assert self._process is not None
        self._count([psutil.Process(self.pid), *children])
        self._process.kill()
        self._process.join()
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive, "a child outlived its parent"

    def kill_child(self) -> None:
        """SIGKILL to the one child, and it is dead."""
        (child,) = self.children()
        self._count([child])
        child.kill()
        # Its parent collects it; a child that waits for that is dead as well.
        psutil.wait_procs([child], timeout=10)

    def remove(self) -> None:
        """It and all that it started are gone."""
        if self._process is not None and self._process.is_alive():
            self.kill()

    def _count(self, dying: list[psutil.Process]) -> None:
        for process in dying:
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                self.spent_seconds += times.user + times.system

    def tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-30:])


def _main(module: str, log: str, environment: Mapping[str, str]) -> None:
    """What ``python -m module`` does, in this process, with these variables."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in (1, 2):
        os.dup2(output, number)
    os.close(output)
    os.environ.update(environment)
    sys.argv = [module]
    # Imported before the variables were known.
    importlib.reload(importlib.import_module("registry.failpoints"))
    runpy.run_module(module, run_name="__main__", alter_sys=True)
