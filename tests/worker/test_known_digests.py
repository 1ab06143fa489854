"""A checkpoint's digest is the one that hashing gives, whatever was noted."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from patches import digests
from patches.errors import NotACheckpoint, UnsafePath
from worker import known_digests
from worker.known_digests import KnownDigests


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    (folder / "unet").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "unet" / "model.safetensors").write_bytes(bytes(range(256)) * 64)
    return folder


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read."""
    names: list[str] = []
    whole = digests.file_digest

    def noted(path: Path) -> str:
        names.append(path.name)
        return whole(path)

    monkeypatch.setattr(known_digests.digests, "file_digest", noted)
    return names


def test_what_was_hashed_is_not_read_again(
    tmp_path: Path, checkpoint: Path, hashed: list[str]
) -> None:
    truth = digests.checkpoint_digest(checkpoint)
    hashed.clear()
    known = KnownDigests(tmp_path / "notes")
    assert known.checkpoint(checkpoint) == truth
    assert sorted(hashed) == ["config.json", "model.safetensors"]
    hashed.clear()
    assert KnownDigests(tmp_path / "notes").checkpoint(checkpoint) == truth
    assert hashed == []


def test_a_changed_file_is_seen_though_its_size_and_time_are_as_before(
    tmp_path: Path, checkpoint: Path, hashed: list[str]
) -> None:
    known = KnownDigests(tmp_path / "notes")
    before = known.checkpoint(checkpoint)
    file = checkpoint / "unet" / "model.safetensors"
    looks = file.stat()
    file.write_bytes(bytes(reversed(file.read_bytes())))
    os.utime(file, ns=(looks.st_atime_ns, looks.st_mtime_ns))
    hashed.clear()
    after = known.checkpoint(checkpoint)
    assert after != before
    assert hashed == ["model.safetensors"]
    assert after == digests.checkpoint_digest(checkpoint)


def test_a_file_more_or_less_is_another_checkpoint(tmp_path: Path, checkpoint: Path) -> None:
    known = KnownDigests(tmp_path / "notes")
    before = known.checkpoint(checkpoint)
    (checkpoint / "more.txt").write_text("more")
    assert known.checkpoint(checkpoint) == digests.checkpoint_digest(checkpoint) != before
    (checkpoint / "more.txt").unlink()
    assert known.checkpoint(checkpoint) == before


def test_once_a_day_everything_is_read(
    tmp_path: Path, checkpoint: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = KnownDigests(tmp_path / "notes")
    known.checkpoint(checkpoint)
    now = known_digests.time.time()
    for later, read in ((known_digests.WHOLE_SECONDS - 60, 0), (known_digests.WHOLE_SECONDS, 2)):
        hashed.clear()
        monkeypatch.setattr(known_digests.time, "time", lambda later=later: now + later)
        known.checkpoint(checkpoint)
        assert len(hashed) == read
    hashed.clear()
    monkeypatch.setattr(known_digests.time, "time", lambda: now - 3600)  # a clock set back
    known.checkpoint(checkpoint)
    assert len(hashed) == 2


@pytest.mark.parametrize("note", ["", "[]", "{", '{"config.json": 1}', '{"config.json": [1, 2]}'])
def test_a_note_that_is_none_is_written_anew(tmp_path: Path, checkpoint: Path, note: str) -> None:
    known = KnownDigests(tmp_path / "notes")
    truth = known.checkpoint(checkpoint)
    (file,) = (tmp_path / "notes").glob("*.json")
    file.write_text(note)
    assert known.checkpoint(checkpoint) == truth
    assert set(json.loads(file.read_text())) == {"config.json", "unet/model.safetensors"}


def test_notes_that_cannot_be_written_are_no_error(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "file").touch()
    known = KnownDigests(tmp_path / "file" / "notes")
    assert known.checkpoint(checkpoint) == digests.checkpoint_digest(checkpoint)


def test_it_raises_what_hashing_raises(tmp_path: Path, checkpoint: Path) -> None:
    known = KnownDigests(tmp_path / "notes")
    with pytest.raises(NotACheckpoint):
        known.checkpoint(tmp_path / "nothing")
    (checkpoint / "link").symlink_to(checkpoint / "config.json")
    with pytest.raises(UnsafePath):
        known.checkpoint(checkpoint)
