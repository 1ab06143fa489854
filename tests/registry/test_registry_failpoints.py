"""Fail points: unarmed they do nothing, nothing but the start of a process arms them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from registry import failpoints
from registry.failpoints import Point

ROOT = Path(__file__).parents[2]
PACKAGES = ("api_schemas", "cli", "client", "evidence", "patches", "razor", "registry", "service")
STAND = """
from registry import failpoints
failpoints.reach(failpoints.Point.MID_EDIT)
print("before", flush=True)
failpoints.reach(failpoints.Point.AFTER_CLAIM)
print("after", flush=True)
"""


def test_nothing_is_armed_unless_a_test_says_so() -> None:
    assert failpoints.VARIABLE not in os.environ
    assert failpoints._folder is None
    for point in Point:
        failpoints.reach(point)


def test_code_only_reaches_points_and_reaches_each() -> None:
    """No request, row or setting can arm one: outside its module, all that is said is `reach`."""
    uses: list[str] = []
    for package in (*PACKAGES, "worker"):
        for path in (ROOT / package).rglob("*.py"):
            if path.name != "failpoints.py":
                text = path.read_text()
                assert failpoints.VARIABLE not in text
                uses += re.findall(r"failpoints\.[a-zA-Z_.]+.*", text)
    names = [re.fullmatch(r"failpoints\.reach\(failpoints\.Point\.(\w+)\)", use) for use in uses]
    assert all(names), uses
    assert {name[1] for name in names if name} == set(Point.__members__)
    for place in ("Makefile", ".ci/run", "pyproject.toml"):
        assert failpoints.VARIABLE not in (ROOT / place).read_text()


def test_of_two_processes_one_stands_still_until_it_may_go_on(tmp_path: Path) -> None:
    (tmp_path / "after_claim.armed").touch()
    here = tmp_path / "after_claim.here"
    environment = {**os.environ, failpoints.VARIABLE: str(tmp_path)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", STAND], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        until(lambda: any(process.poll() is not None for process in running))
        until(lambda: here.exists() and here.read_text().endswith("\n"))
        (stands,) = [process for process in running if process.poll() is None]
        assert int(here.read_text()) == stands.pid
        here.unlink()
        said = [process.communicate(timeout=60)[0] for process in running]
        assert said == ["before\nafter\n"] * 2
    finally:
        for process in running:
            process.kill()
            process.wait()


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
