"""Decoders are confined, replaced when they die or hang, believed nothing, and end with us."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from front_world import as_files, fields, pictures, world
from picture_corpus import encoded, many_scans
from PIL import Image

from service import decoders as decoders_module
from service import intake
from service.decoders import Decoder, Decoders
from service.errors import DecoderUnavailable, InvalidSamples

MEBIBYTE = 2**20
MEMORY = 256 * MEBIBYTE
LIMITS = intake.Limits(bytes=64 * MEBIBYTE, pixels=50_000_000, side=20_000)
ROOT = Path(__file__).parents[2]

#: What each decoder in bad hands does with three pictures, and how the request is answered.
BAD = {
    "dies at once": ("", None),
    "dies while it is given them": ("exactly(6); die()", None),
    "takes them for granted": ("say(b'h', SIZE); hang()", None),
    "dies at the second header": ("take(); header(); die()", "/s/1"),
    "dies at the third picture": ("take(); headers(); good(); good(); die()", "/s/2"),
    "hangs at the second header": ("take(); header(); hang()", "/s/1"),
    "drips": ("take(); headers(); drip()", "/s/0"),
    "makes no picture": ("take(); headers(); data(b'x'); data(b'x'); data(b'x'); hang()", "/s/0"),
    "makes too much": ("take(); headers(); say(b'd', b'x' * 2**20); hang()", "/s/0"),
    "lies about a size": ("take(); say(b'h', SIZE, 2**31); hang()", "/s/0"),
    "answers out of turn": ("take(); say(b'e', b''); hang()", "/s/0"),
    "makes up a flaw": ("take(); say(b'f', b'<script>'); headers(2); hang()", "/s/0"),
}
PROGRAM = """
import os, socket, struct, sys, time
link = socket.socket(fileno=0)
SIZE = struct.pack(">II?", 8, 8, True)
def exactly(size):
    data = b""
    while len(data) < size:
        piece = link.recv(size - len(data))
        if not piece: sys.exit()
        data += piece
    return data
def take():
    for _ in range(struct.unpack(">I", exactly(4))[0]):
        exactly(struct.unpack(">I", exactly(4))[0])
    say(b"t", b"")
def say(kind, content, size=None):
    link.sendall(kind + struct.pack(">I", len(content) if size is None else size) + content)
def header(): say(b"h", SIZE)
def headers(count=3):
    for _ in range(count): header()
    if count == 3: exactly(1)
def data(content): say(b"d", content); say(b"e", b"")
def good(): data(GOOD)
def die(): os.kill(os.getpid(), 9)
def hang(): time.sleep(60)
def drip():
    while True: say(b"d", b"x"); time.sleep(0.05)
"""


@contextmanager
def made(memory: int = MEMORY, cpu: int = 20, wall: float = 30.0) -> Iterator[Decoders]:
    decoders = Decoders(memory, cpu, wall)
    try:
        yield decoders
    finally:
        decoders.close()


@contextmanager
def bad(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> Iterator[Decoders]:
    """Decoders that are such a program; one that never dies has half a second for each picture."""
    program, ready = folder / "decoder.py", folder / "ready"
    good = encoded(Image.new("RGB", (8, 8)), "PNG")
    begin = f"GOOD = {good!r}\n{PROGRAM}\nopen({str(ready)!r}, 'w').close()"
    program.write_text(f"{begin}\n{script}\n")
    monkeypatch.setattr(decoders_module, "_PROGRAM", str(program))
    with made(wall=0.5 if "hang()" in script or "drip()" in script else 30.0) as decoders:
        decoders.warm(1)
        until = time.monotonic() + 30
        while not ready.exists():
            assert time.monotonic() < until
            time.sleep(0.02)
        yield decoders


def clean(decoders: Decoders, *files: bytes) -> list[bytes]:
    streams = [io.BytesIO(data) for data in files]
    with intake.clean_copies({"s": streams}, LIMITS, decoders) as copies:
        return [path.read_bytes() for path in copies["s"]]


def flaws(decoders: Decoders, *files: bytes) -> list[tuple[str, str]]:
    with pytest.raises(InvalidSamples) as refused:
        clean(decoders, *files)
    return [(wrong.pointer, wrong.code) for wrong in refused.value.fields]


def process_of(decoders: Decoders) -> psutil.Process:
    """The one decoder that is idle, after it has served."""
    clean(decoders, *pictures(1))
    (decoder,) = decoders._idle
    return psutil.Process(decoder.process.pid)


def test_a_decoder_has_no_secret_and_can_reach_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAZOR_DATABASE_URL", "postgresql://u:secret@host/name")
    with made() as decoders:
        process = process_of(decoders)
        assert set(process.environ()) <= {"LD_LIBRARY_PATH", "LC_CTYPE"}
        assert process.cwd() == "/"
        limits = {
            "data": psutil.RLIMIT_DATA,
            "files": psutil.RLIMIT_NOFILE,
            "written": psutil.RLIMIT_FSIZE,
            "processes": psutil.RLIMIT_NPROC,
            "core": psutil.RLIMIT_CORE,
        }
        assert {name: process.rlimit(kind) for name, kind in limits.items()} == {
            "data": (MEMORY, MEMORY),
            "files": (3, 3),
            "written": (0, 0),
            "processes": (0, 0),
            "core": (0, 0),
        }
        assert process.num_fds() <= 3
        maps = {Path(found.path).name for found in process.memory_maps()}
        assert any("_imaging" in name for name in maps)
        assert not any("torch" in name or "sqlite" in name for name in maps)


def test_a_picture_that_needs_too_much_memory_is_refused_and_the_decoder_lives() -> None:
    large = encoded(Image.new("RGB", (7000, 5000)), "PNG")
    with made(128 * MEBIBYTE) as decoders:
        before = process_of(decoders).pid
        assert flaws(decoders, *pictures(1), large) == [("/s/1", "too_costly")]
        assert process_of(decoders).pid == before
        assert process_of(decoders).memory_info().rss < 128 * MEBIBYTE
    with made(LIMITS.pixels * 32) as decoders:
        assert len(clean(decoders, large)) == 1


def test_a_picture_that_needs_too_much_time_is_refused_and_the_decoder_replaced() -> None:
    slow = many_scans(20_000, 3000)
    with made(cpu=1) as decoders:
        before = process_of(decoders).pid
        started = time.process_time()
        assert flaws(decoders, *pictures(2), slow) == [("/s/2", "too_costly")]
        assert time.process_time() - started < 1
        assert process_of(decoders).pid != before


@pytest.mark.parametrize("name", BAD)
def test_whatever_a_decoder_does_the_request_is_answered(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script, pointer = BAD[name]
    with bad(monkeypatch, tmp_path, script) as decoders:
        started = time.monotonic()
        if pointer is None:
            with pytest.raises(DecoderUnavailable):
                clean(decoders, *pictures(3))
        else:
            found = flaws(decoders, *pictures(3))
            assert found[0][0] == pointer
            assert all(code in intake.FLAWS for _, code in found)
        assert time.monotonic() - started < 10
        children = psutil.Process().children()
        assert not any(str(tmp_path) in " ".join(child.cmdline()) for child in children)


def test_a_decoder_that_dies_by_accident_is_replaced_unseen() -> None:
    with made() as decoders:
        idle = process_of(decoders)
        idle.kill()
        assert len(clean(decoders, *pictures(2))) == 2
        # In the middle of a batch too: it is done once more.
        looked = Decoder.look
        with pytest.MonkeyPatch.context() as patch:

            def struck(decoder: Decoder) -> object:
                patch.setattr(Decoder, "look", looked)
                decoder.process.kill()
                decoder.process.wait()
                return looked(decoder)

            patch.setattr(Decoder, "look", struck)
            assert len(clean(decoders, *pictures(2))) == 2


def test_others_are_served_while_a_decoder_hangs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    request = ("request", (None, json.dumps(fields()), "application/json"))
    answers = []
    with world(tmp_path) as front, bad(monkeypatch, tmp_path, "take(); hang()") as hanging:
        http = front.http
        assert http is not None
        object.__setattr__(front.parts, "decoders", hanging)

        def submit() -> None:
            answers.append(http.post("/unlearn", files=[request, *as_files(pictures(3))]))

        waiting = threading.Thread(target=submit)
        waiting.start()
        assert http.get("/healthz").status_code == 200
        assert http.get("/jobs").status_code == 200
        assert not answers
        waiting.join()
        (answer,) = answers
        assert answer.status_code == 422
        assert [wrong["pointer"] for wrong in answer.json()["errors"]] == ["/samples/0"]
        monkeypatch.undo()
        with made() as sound:
            object.__setattr__(front.parts, "decoders", sound)
            answer = http.post("/unlearn", files=[request, *as_files(pictures(3))])
            assert answer.status_code == 202


def test_many_threads_share_a_few_decoders() -> None:
    failed: list[Exception] = []
    with made() as decoders:

        def work(seed: int) -> None:
            try:
                for number in range(4):
                    image = Image.new("RGB", (8, 8), (seed, number, 0))
                    (kept,) = clean(decoders, encoded(image, "PNG"))
                    with Image.open(io.BytesIO(kept)) as found:
                        assert found.getpixel((0, 0)) == (seed, number, 0)
            except Exception as exc:
                failed.append(exc)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert len(decoders._idle) <= 4
        kept = [decoder.process.pid for decoder in decoders._idle]
    assert not any(psutil.pid_exists(pid) for pid in kept)


PARENT = """
import sys, time
sys.path.insert(0, {root!r})
from service.decoders import Decoders
decoders = Decoders(2**28)
decoders.warm(2)
print(*[decoder.process.pid for decoder in decoders._idle], "PIL" in sys.modules, flush=True)
time.sleep(60)
"""


def test_decoders_end_with_a_parent_that_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT.format(root=str(ROOT))], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        *pids, library = parent.stdout.readline().split()
        processes = [psutil.Process(int(pid)) for pid in pids]
        assert len(processes) == 2
        assert library == "False"
        os.kill(parent.pid, signal.SIGKILL)
    gone, alive = psutil.wait_procs(processes, timeout=20)
    assert len(gone) == 2
    assert not alive
