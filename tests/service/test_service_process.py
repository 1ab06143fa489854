"""``python -m service`` as an operator runs it: soon there, small, without torch, soon gone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from front_world import World, bearer, make_world, register
from live_front import free_port

from patches import container

MEBIBYTE = 2**20
ROOT = Path(__file__).parents[2]
BIG_BYTES = 96 * MEBIBYTE
#: Processor time, so that waiting for other processes does not count. They slow it down all the
#: same: what the frameworks alone cost to import, here and on a free core, says by how much. A
#: neighbour comes and goes, so both are measured side by side, up to so many times, and the least
#: of each counts.
START_CPU_SECONDS = 2.0
FRAMEWORKS_CPU_SECONDS = 1.2
ROUNDS = 6
FRAMEWORKS = "fastapi, sqlalchemy.orm, alembic.command, uvicorn"
MAX_RSS_BYTES = 200 * MEBIBYTE


@dataclass
class Running:
    """The process, how to reach it, and what its start cost."""

    process: psutil.Process
    popen: subprocess.Popen[bytes]
    url: str
    world: World
    cpu_seconds: float
    frameworks: float  # CPU seconds that importing them cost just before
    log: Path

    @property
    def headers(self) -> dict[str, str]:
        return bearer(self.world.key)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One process for the module: the test that ends it comes last."""
    tmp_path = tmp_path_factory.mktemp("process")
    made = make_world(tmp_path)
    checkpoint(made.checkpoint)
    made.parts.database.migrate()
    register(made)
    frameworks = imported()
    try:
        with started(made, tmp_path / "log") as (popen, url, seconds):
            process = psutil.Process(popen.pid)
            yield Running(process, popen, url, made, seconds, frameworks, tmp_path / "log")
    finally:
        made.parts.database.close()


@contextmanager
def started(world: World, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], str, float]]:
    """A front that answers on the world's data, where, and the CPU seconds that it took."""
    port = free_port()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("RAZOR_")
    } | {"RAZOR_DATA_FOLDER": str(log.parent / "data"), "RAZOR_PORT": str(port)}
    with log.open("wb") as sink:
        popen = subprocess.Popen(
            [sys.executable, "-m", "service"], cwd=ROOT, env=environment, stderr=sink
        )
    try:
        url = f"http://127.0.0.1:{port}"
        process = psutil.Process(popen.pid)
        until = time.monotonic() + 60
        while not answers(url):
            assert popen.poll() is None, log.read_text()
            assert time.monotonic() < until
            time.sleep(0.02)
        times = process.cpu_times()
        yield popen, url, times.user + times.system
    finally:
        popen.kill()
        popen.wait()


def imported() -> float:
    """The CPU seconds that importing the frameworks costs now."""
    return float(python(f"import {FRAMEWORKS}, time; print(time.process_time())"))


def checkpoint(folder: Path) -> None:
    """Weights far larger than a download may hold in memory."""
    folder.mkdir()
    tensors = {
        "weight": container.TensorData("F32", (4, 6), bytes(96)),
        "rest": container.TensorData("U8", (BIG_BYTES,), lambda: bytes(BIG_BYTES)),
    }
    container.write(folder / "model.safetensors", tensors, {})


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def test_the_process_is_soon_there_small_and_holds_no_torch(
    running: Running,
) -> None:
    assert httpx.get(f"{running.url}/readyz", timeout=30).json()["status"] == "ready"
    job = running.world.finished()
    before = running.process.memory_info().rss
    size = 0
    address = f"{running.url}/patches/{job.patch_id}/weights"
    with httpx.stream("GET", address, headers=running.headers) as answer:
        for chunk in answer.iter_raw():
            size += len(chunk)
    after = running.process.memory_info().rss
    print(f"{before >> 20} MiB, after a download {after >> 20} MiB")
    assert size > BIG_BYTES
    assert after - before < 32 * MEBIBYTE
    assert after < MAX_RSS_BYTES
    maps = Path(f"/proc/{running.popen.pid}/maps").read_text()
    assert "torch" not in maps
    assert "_imaging" not in maps  # pictures are decoded elsewhere
    assert "pydantic_core" in maps  # the negative control: such a search does find libraries


def test_the_start_costs_little_beyond_the_frameworks(running: Running) -> None:
    start, frameworks = running.cpu_seconds, running.frameworks
    for number in range(ROUNDS):
        slowdown = max(1.0, frameworks / FRAMEWORKS_CPU_SECONDS)
        if start < START_CPU_SECONDS * slowdown:
            break
        frameworks = min(frameworks, imported())
        with started(running.world, running.log.with_name(f"again{number}")) as (_, _, again):
            start = min(start, again)
    print(f"start {start:.2f} s of CPU, the frameworks alone {frameworks:.2f} s")
    assert start < START_CPU_SECONDS * max(1.0, frameworks / FRAMEWORKS_CPU_SECONDS)


def test_importing_the_front_imports_no_science() -> None:
    code = (
        "import sys, service.app, service.__main__\n"
        "heavy = {'torch', 'numpy', 'transformers', 'diffusers', 'open_clip', 'razor', 'worker',"
        " 'client', 'cli', 'celery', 'PIL'}\n"
        "print(sorted(heavy & sys.modules.keys()), 'fastapi' in sys.modules)"
    )
    assert python(code).strip() == "[] True"


def python(code: str) -> str:
    """What this code prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_callers_who_leave_are_no_errors(running: Running) -> None:
    rest = b"HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n" % running.world.key.encode()
    body = b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    job_id = running.world.accept()
    poll = b"GET /jobs/%s?wait=30 %s\r\n" % (job_id.encode(), rest)
    for request in (b"POST /unlearn %s%s" % (rest, body), poll):
        with socket.create_connection(("127.0.0.1", httpx.URL(running.url).port)) as client:
            client.sendall(request)
            time.sleep(0.5)
    until = time.monotonic() + 10
    while not {"/unlearn", "/jobs/{job_id}"} <= {line.get("route") for line in running.lines()}:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert not [line for line in running.lines() if line["level"] in {"warning", "error"}]


def test_a_signal_ends_the_process_soon_even_while_clients_wait(running: Running) -> None:
    job_id = running.world.accept()
    found: list[httpx.Response] = []

    def wait() -> None:
        found.append(
            httpx.get(f"{running.url}/jobs/{job_id}?wait=60", headers=running.headers, timeout=70)
        )

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.5)
    started = time.monotonic()
    running.popen.send_signal(signal.SIGTERM)
    waiting.join(20)
    assert found
    assert found[0].json()["status"] == "queued"
    running.popen.wait(20)
    assert time.monotonic() - started < 15
    lines = running.lines()
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    assert not [line for line in lines if line["level"] in {"warning", "error"}]
    assert any(line.get("route") == "/jobs/{job_id}" for line in lines)
    assert "?" not in running.log.read_text()
