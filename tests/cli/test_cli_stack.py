from __future__ import annotations

import os
import signal
import socket
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from cli_world import Run

from cli import stack, up
from cli.failures import Refused, Unready
from cli.stack import Process, Stack
from registry.settings import Settings

ROOT = Path(__file__).parent.parent.parent

PLAIN = "import time; print('up', flush=True); time.sleep(60)"
DYING = "import sys; print('about to die', flush=True); sys.exit(7)"
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


def process(tmp_path: Path, program: str, name: str = "toy") -> Process:
    (tmp_path / f"{name}.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    return Process(name, name, tmp_path / "logs" / f"{name}.log", environment)


def until(condition: object, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def lives(pid: int) -> bool:
    """Running; a dead child whose parent has not looked yet does not count."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_process_is_stopped_with_its_children_even_if_it_will_not(tmp_path: Path) -> None:
    found = process(tmp_path, STUBBORN)
    found.start()
    until(lambda: found.log.read_text().strip())
    child = int(found.log.read_text())
    assert lives(child)
    found.ask_to_stop()
    time.sleep(0.1)
    assert found.exit_code() is None  # the control: it ignores the request
    found.stop(time.monotonic() + 0.1)
    assert found.exit_code() == -signal.SIGKILL
    until(lambda: not lives(child))


def test_stopping_twice_or_before_the_start_does_no_harm(tmp_path: Path) -> None:
    found = process(tmp_path, PLAIN)
    found.stop(time.monotonic())
    found.start()
    for _ in range(2):
        found.ask_to_stop()
        found.stop(time.monotonic() + 5)
    assert found.exit_code() == -signal.SIGTERM


def test_a_folder_of_the_same_name_where_the_user_stands_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "here"
    trap.mkdir()
    (trap / "toy.py").write_text("raise SystemExit(99)")
    monkeypatch.chdir(trap)
    found = process(tmp_path, DYING)
    found.start()
    until(lambda: found.exit_code() is not None)
    assert found.exit_code() == 7


def make_stack(tmp_path: Path, *, api: str, worker: str, said: list[str]) -> Stack:
    made = Stack(Settings(data_folder=tmp_path, port=stack.free_port()), workers=1, say=said.append)
    made.api = process(tmp_path, api, "api_toy")
    made.workers = [process(tmp_path, worker, "worker_toy")]
    return made


def test_a_worker_that_dies_is_reported_and_started_again_ever_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "_FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(stack, "_POLL_SECONDS", 0.01)
    said: list[str] = []
    stopping = threading.Event()
    with make_stack(tmp_path, api=PLAIN, worker=DYING, said=said) as found:
        thread = threading.Thread(target=found.watch, args=(stopping,))
        thread.start()
        until(lambda: len(said) >= 3)
        stopping.set()
        thread.join()
    assert "worker_toy ended with code 7" in said[0]
    assert "about to die" in said[0]
    assert found.api.exit_code() == -signal.SIGTERM


def test_pauses_grow_and_a_long_life_starts_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = process(tmp_path, PLAIN)
    now = [1000.0]
    monkeypatch.setattr(stack.time, "monotonic", lambda: now[0])
    found._started = now[0]
    assert [found.pause_seconds() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    now[0] += 61
    assert found.pause_seconds() == 1


def test_an_api_that_dies_ends_it_all_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "_POLL_SECONDS", 0.01)
    with (
        pytest.raises(Unready, match="code 7"),
        make_stack(tmp_path, api=DYING, worker=PLAIN, said=[]) as found,
    ):
        found.watch(threading.Event())
    assert found.workers[0].exit_code() == -signal.SIGTERM
    with (
        pytest.raises(Unready, match="about to die"),
        make_stack(tmp_path, api=DYING, worker=PLAIN, said=[]) as found,
    ):
        found.wait_ready(threading.Event())


def test_a_port_that_is_taken_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        made = Stack(Settings(data_folder=tmp_path, port=port))
        with pytest.raises(Refused, match="--port"), made:
            pass
    assert not (tmp_path / "logs").exists()


def test_children_agree_with_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = Settings(data_folder=tmp_path, port=4321, database_url="sqlite:///x.db")
    for name, value in stack.environment_for(chosen).items():
        monkeypatch.setenv(name, value)
    assert Settings() == chosen


def test_signals_set_the_event_and_go_back_to_what_they_were() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with up.stop_signals() as stopping:
        assert not stopping.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopping.wait(5)
    assert signal.getsignal(signal.SIGTERM) is before


def test_up_serves_until_it_is_told_to_stop(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = tmp_path / "reference/retain"
    keep.mkdir(parents=True)  # spares the test the drawing
    (keep / "index.csv").write_text("path,name,caption,scene,accessory,style\n")
    monkeypatch.setattr(stack, "STOP_SECONDS", 0.5)  # ... and the worker's import of torch
    port = stack.free_port()
    address = f"http://127.0.0.1:{port}/models"
    seen: list[bytes] = []

    announced = threading.Event()
    shown: list[str] = []
    monkeypatch.setattr(up, "show", lambda issued: shown.append(issued.text))
    monkeypatch.setattr(up, "say", lambda text: (print(text), announced.set()))

    def look_and_stop() -> None:
        announced.wait(60)
        seen.append(answer(address))
        seen.append(answer(address, *shown))
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=look_and_stop)
    thread.start()
    found = run("up", "--data", str(tmp_path), "--port", str(port))
    thread.join()
    assert found.code == 0
    assert seen[0] == b""  # no key, no answer
    assert b"reference-clip" in seen[1]
    assert all(shown[0].encode() not in file.read_bytes() for file in files(tmp_path))
    assert found.out.startswith(f"http://127.0.0.1:{port}  ")
    assert found.err == "Ctrl-C stops it\nstopped\n"
    assert answer(address) == b""
    assert (tmp_path / "logs/worker-1.log").is_file()


def test_a_worker_takes_the_place_of_the_command(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(
        "os.execve", lambda _, arguments, environment: started.append((arguments, environment))
    )
    assert run("worker", "--data", str(tmp_path)).code == 0
    ((arguments, environment),) = started
    assert arguments[-2:] == ["-m", "worker"]
    assert environment["RAZOR_DATA_FOLDER"] == str(tmp_path)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def answer(address: str, key: str = "") -> bytes:
    """What is answered there; nothing where nobody listens, and nothing to whom is refused."""
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            content: bytes = response.read()
            return content
    except OSError:
        return b""
