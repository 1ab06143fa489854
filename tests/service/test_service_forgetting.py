"""The service forgets too: names and pictures are sealed while they are needed, and then gone."""

from __future__ import annotations

import io
import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from front_world import (
    MODEL,
    TENANT,
    World,
    as_files,
    encoded,
    make_world,
    pictures,
    register,
    world,
)
from PIL import Image

from registry import installation
from registry.blobs import LocalBlobs
from registry.sealing import DataKey
from service import background
from tests.traces import everything, forms, of_name, of_pictures

NAME, ALIAS, DESCRIPTION = "Zoë Ünaldo", "Zunnixa Q.", "whoever wears the vermilion zucchetto"
NOTE = "brought by her niece Ottiliana"
WORDS = (NAME, ALIAS, DESCRIPTION, "Ottiliana")
HOUR = 3600


def noise(number: int) -> Image.Image:
    """A picture that no compression makes small: every part of its file is its own."""
    return Image.frombytes("RGB", (24, 24), random.Random(number).randbytes(24 * 24 * 3))


SENT = [encoded(noise(number), "JPEG", quality=90) for number in range(3)]
PROBES = [encoded(noise(number)) for number in range(3, 5)]


def post(http: TestClient, key: str = "k") -> dict[str, Any]:
    fields = {
        "model": MODEL,
        "target": {"name": NAME, "aliases": [ALIAS], "descriptions": [DESCRIPTION]},
        "metadata": {"note": NOTE},
    }
    answer = http.post(
        "/unlearn",
        data={"request": json.dumps(fields)},
        files=as_files(SENT, PROBES),
        headers={"Idempotency-Key": key},
    )
    assert answer.status_code == 202, answer.text
    view: dict[str, Any] = answer.json()
    return view


def eventually(condition: Callable[[], bool], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def found(made: World, stored: list[bytes]) -> list[str]:
    """Where in the data folder and the database anything is that the request said or showed."""
    settings = made.parts.settings
    held = everything(settings.data_folder, settings.database)
    names = [place for word in WORDS for place in of_name(word, held)]
    return names + of_pictures([*SENT, *PROBES, *stored], held)


def as_stored(made: World, job_id: str) -> list[bytes]:
    """The job's pictures as they were cleaned and written."""
    job = made.job(job_id)
    assert job.data_key is not None
    opened = []
    for digest in (*job.samples, *job.probe_samples):
        with made.parts.blobs.open(digest) as file:
            opened.append(job.data_key.open_picture(file.read()))
    return opened


def test_nothing_is_found_while_a_job_waits_nor_after_it_ended(tmp_path: Path) -> None:
    with world(tmp_path, recovery_seconds=0.1) as made:
        assert made.http is not None
        view = post(made.http)
        stored = as_stored(made, view["id"])
        assert [Image.open(io.BytesIO(each)).format for each in stored] == ["PNG"] * 5
        assert view["metadata"] == {"note": NOTE}
        assert view["erased_at"] is None
        assert found(made, stored) == []
        made.finish(made.claim())
        eventually(lambda: made.job(view["id"]).erased_at is not None)
        gone = made.http.get(f"/jobs/{view['id']}").json()
        assert (gone["status"], gone["metadata"]) == ("succeeded", {})
        assert gone["erased_at"] is not None
        assert (gone["subjects"], gone["model"]) == (view["subjects"], MODEL)
        assert len(list(made.parts.blobs.digests())) == 1, "the patch"
        assert found(made, stored) == []
        assert post(made.http)["id"] == view["id"], "the answer to a key outlives the request"
    with world(tmp_path) as again:
        assert again.http is not None
        assert post(again.http)["id"] == view["id"]
        subject = installation.load(again.parts.settings.key_path).subject(TENANT, NAME)
        assert view["subjects"] == post(again.http, "another")["subjects"] == [subject]


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    """The control: the same search, with what must not be there put there."""
    for number, form in enumerate(sorted(forms(NAME))):
        assert of_name(NAME, {"file": b"x" * number + form + b"y", "other": b"x"}) == ["file"]
    for number in range(0, 64, 9):
        held = {"file": b"x" * number + SENT[0][200:264] + b"y", "other": SENT[1][:63]}
        assert of_pictures(SENT[:1], held) == ["file"]
    made = make_world(tmp_path)
    made.parts.database.migrate()
    register(made)
    assert found(made, []) == []
    made.parts.blobs.put(PROBES[0])
    (made.parts.settings.data_folder / "planted").write_text(json.dumps({"name": NAME}))
    assert len(found(made, [])) == 2
    made.parts.database.close()


def test_with_retention_it_is_kept_and_not_readable(tmp_path: Path) -> None:
    with world(tmp_path, recovery_seconds=0.1, retention_days=1) as made:
        assert made.http is not None
        view = post(made.http)
        stored = as_stored(made, view["id"])
        made.finish(made.claim())
        time.sleep(0.5)
        kept = made.http.get(f"/jobs/{view['id']}").json()
        assert (kept["metadata"], kept["erased_at"]) == ({"note": NOTE}, None)
        assert as_stored(made, view["id"]) == stored
        assert found(made, stored) == []


def test_a_deletion_that_leaves_traces_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_world(tmp_path)
    made.parts.database.migrate()
    register(made)
    job = made.finished()
    monkeypatch.setattr(made.parts.database, "scrub", lambda: False)
    with pytest.raises(background.NotScrubbed):
        background.forget(made.parts)
    assert made.job(job.id).erased_at is None
    monkeypatch.undo()
    background.forget(made.parts)
    assert made.job(job.id).erased_at is not None
    made.parts.database.close()


def aged(path: Path) -> Path:
    """The file or folder as if it had been written two hours ago."""
    moment = time.time() - 2 * HOUR
    os.utime(path, (moment, moment))
    return path


def test_what_crashes_left_is_swept_and_what_is_needed_stays(tmp_path: Path) -> None:
    made = make_world(tmp_path)
    made.parts.database.migrate()
    register(made)
    blobs, data_key = made.parts.blobs, DataKey.random()
    assert isinstance(blobs, LocalBlobs)

    def put(data: bytes, old: bool = True) -> str:
        digest = blobs.put(data)
        if old:
            aged(blobs._path(digest))
        return digest

    orphan = put(data_key.seal_picture(b"orphan"))
    kept = {put(data_key.seal_picture(b"under way"), old=False), put(b"a patch, or a certificate")}
    job_id = made.accept()
    kept |= set(made.job(job_id).samples)
    work = made.parts.settings.work_folder
    for name in ("intake-old", "intake-new"):
        (work / name).mkdir(parents=True)
        (work / name / "0.png").write_bytes(pictures(1)[0])
    aged(work / "intake-old")
    half = blobs._folder / ".incoming-x"
    half.write_bytes(b"half")
    aged(half)
    for _ in range(2):
        background.sweep(made.parts)
        assert set(blobs.digests()) == kept
        assert orphan not in kept
        assert [path.name for path in work.iterdir()] == ["intake-new"]
        assert not half.exists()
    made.parts.database.close()


def test_a_sealed_picture_that_a_job_needs_is_not_swept_however_old(
    front: World, http: TestClient
) -> None:
    job = front.job(post(http)["id"])
    assert isinstance(front.parts.blobs, LocalBlobs)
    for digest in job.samples:
        aged(front.parts.blobs._path(digest))
    background.sweep(front.parts)
    assert all(front.parts.blobs.exists(digest) for digest in job.samples)
