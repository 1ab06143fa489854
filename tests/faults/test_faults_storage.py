"""A disk that is full or cannot be written: nothing is half accepted, and it heals by itself."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from front_world import World, as_files, fields, pictures, world

from tests.faults.conftest import until


def post(front: World, **more: Any) -> Any:
    """A request with three pictures."""
    assert front.http is not None
    form = {"request": (None, json.dumps(fields()), "application/json")}
    return front.http.post(
        "/unlearn", files=[*form.items(), *as_files(pictures(3, side=64))], **more
    )


def refused(answer: Any, *codes: str) -> None:
    """Says what happened, that it is worth another try, and when."""
    assert answer.status_code == 503, answer.text
    problem = answer.json()
    assert problem["type"].removeprefix("/problems/") in codes
    assert problem["retryable"] is True
    assert int(answer.headers["retry-after"]) > 0


def readiness(front: World) -> tuple[int, dict[str, str]]:
    assert front.http is not None
    answer = front.http.get("/readyz")
    return answer.status_code, answer.json()["checks"]


@pytest.fixture
def small(tiny_disk: Path, tmp_path: Path) -> Iterator[World]:
    """A front whose whole data folder lies on the tiny disk."""
    with world(tmp_path, data_folder=tiny_disk / "data", relay_seconds=30) as made:
        yield made


def fill(folder: Path) -> Path:
    """Take every byte that is left."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (2**16, 2**12, 1):
            with suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
    assert os.statvfs(folder).f_bfree == 0
    return ballast


def test_a_full_disk_refuses_and_heals(small: World, tiny_disk: Path) -> None:
    first = post(small)
    assert first.status_code == 202
    assert readiness(small)[0] == 200
    before = small.stored()
    ballast = fill(tiny_disk)
    refused(post(small), "storage-unavailable", "database-unavailable")
    assert readiness(small)[1]["storage"] == "failed"
    # What was accepted can still be read.
    assert small.http is not None
    assert small.http.get(first.headers["location"]).status_code == 200
    assert small.stored()["jobs"] == before["jobs"]
    ballast.unlink()
    assert post(small).status_code == 202
    assert readiness(small)[0] == 200
    assert not list((tiny_disk / "data" / "work").glob("*")), "nothing half made is left"


def test_a_disk_that_turned_read_only_refuses_and_heals(small: World, tiny_disk: Path) -> None:
    first = post(small)
    assert first.status_code == 202

    # Mounted over itself: files that are open stay writable, as SQLite's are; no other does.
    subprocess.run(["mount", "--bind", str(tiny_disk), str(tiny_disk)], check=True)
    try:
        remount = ["mount", "-o", "remount,bind,ro", str(tiny_disk)]
        subprocess.run(remount, check=True)
        refused(post(small), "storage-unavailable", "database-unavailable")
        assert readiness(small)[0] == 503
        assert readiness(small)[1]["storage"] == "failed"
    finally:
        subprocess.run(["umount", "-l", str(tiny_disk)], check=True)
    until(lambda: post(small).status_code == 202)


#: Where a request writes: the lowest seams of each.
SEAMS: dict[str, tuple[str, str]] = {
    "the folder for decoded pictures": ("service.intake", "TemporaryDirectory"),
    "a blob on its way to the disk": ("registry.blobs", "os.fsync"),
    "a blob's temporary file": ("registry.blobs", "tempfile.mkstemp"),
}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("seam", SEAMS.values(), ids=SEAMS)
def test_every_write_of_a_request_may_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seam: tuple[str, str], code: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with world(tmp_path) as front:
        before = front.stored()
        with monkeypatch.context() as broken:
            broken.setattr(".".join(seam), fail)
            refused(post(front), "storage-unavailable")
        after = front.stored()
        assert {name: after[name] for name in ("jobs", "outbox")} == {
            name: before[name] for name in ("jobs", "outbox")
        }
        assert post(front).status_code == 202


def test_a_body_that_finds_no_room_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files above a megabyte are put on the disk while they come in."""

    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with world(tmp_path) as front:
        assert front.http is not None
        large = os.urandom(2 * 2**20)
        form = [("request", (None, json.dumps(fields()), "application/json")), *as_files([large])]
        monkeypatch.setattr("tempfile.SpooledTemporaryFile.rollover", fail)
        refused(front.http.post("/unlearn", files=form), "storage-unavailable")
