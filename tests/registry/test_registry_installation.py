"""The installation's key: the same for every process, and another for every purpose."""

from __future__ import annotations

import threading
import unicodedata
from pathlib import Path

import pytest
from registry_examples import NAME, request

from registry import installation, sealing
from registry.errors import KeyFileInvalid, SealBroken
from registry.installation import KEY_BYTES, Keys
from registry.sealing import DataKey

OURS = Keys(bytes(range(32)))
OTHERS = Keys(bytes(32))


def test_one_name_is_one_subject_in_a_tenant_however_it_is_written() -> None:
    name = "Zoë  Ünal"
    spellings = {name, unicodedata.normalize("NFD", name), " zoë ünal ", "ZOË ÜNAL"}
    assert len({OURS.subject("a", spelling) for spelling in spellings}) == 1
    assert len({OURS.mark(spelling) for spelling in spellings}) == 1


def test_another_name_tenant_installation_or_purpose_is_another_digest() -> None:
    digests = [
        OURS.subject("a", NAME),
        OURS.subject("b", NAME),
        OURS.subject("a", NAME + "s"),
        OURS.subject("aM", NAME[1:]),
        OTHERS.subject("a", NAME),
        OURS.mark(NAME),
        OURS.fingerprint(NAME).removeprefix(installation.FINGERPRINT_PREFIX),
    ]
    assert len(set(digests)) == len(digests)
    assert all(len(bytes.fromhex(digest)) == 32 for digest in digests)


def test_a_data_key_opens_in_its_own_job_and_installation_only() -> None:
    data_key = DataKey.random()
    wrapped = data_key.wrapped(OURS, "job_1")
    assert DataKey.unwrapped(wrapped, OURS, "job_1") == data_key
    for whose, job_id in ((OURS, "job_2"), (OTHERS, "job_1")):
        with pytest.raises(SealBroken):
            DataKey.unwrapped(wrapped, whose, job_id)
    for broken in (b"", wrapped[:-1], wrapped[:20] + b"\0" + wrapped[21:]):
        with pytest.raises(SealBroken):
            DataKey.unwrapped(broken, OURS, "job_1")


def test_what_is_sealed_shows_nothing_and_opens_whole() -> None:
    data_key, picture = DataKey.random(), b"\x89PNG" + bytes(200)
    first, second = data_key.seal_picture(picture), data_key.seal_picture(picture)
    assert data_key.open_picture(first) == data_key.open_picture(second) == picture
    assert first[len(sealing.PICTURE_MARK) :] != second[len(sealing.PICTURE_MARK) :]
    assert bytes(16) not in first
    asked = request(metadata={"note": "\0 é"}, targets=[{"name": NAME}], target=None)
    sealed = data_key.seal_request(asked)
    assert NAME.encode() not in sealed
    assert data_key.open_request(sealed, asked.without_personal()) == asked
    with pytest.raises(SealBroken):
        DataKey.random().open_picture(first)
    with pytest.raises(SealBroken):  # a picture is no request
        data_key.open_request(first[len(sealing.PICTURE_MARK) :], asked)


def test_a_picture_of_before_there_were_keys_is_as_it_is() -> None:
    assert DataKey.random().open_picture(b"\x89PNG plain") == b"\x89PNG plain"


def test_no_repr_shows_a_key() -> None:
    secret = bytes(range(32))
    for shown in (repr(Keys(secret)), repr(DataKey(secret))):
        assert shown in {"Keys()", "DataKey()"}


def test_the_first_process_makes_the_file_and_all_use_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "razor.key"
    found: list[str] = []
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait()
        found.append(installation.load(path).mark(NAME))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert set(found) == {installation.load(path).mark(NAME)}
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["razor.key"]
    assert installation.load(tmp_path / "another.key").mark(NAME) not in found


@pytest.mark.parametrize("text", ["", "no hex", "00" * (KEY_BYTES - 1), "00" * (KEY_BYTES + 1)])
def test_a_damaged_file_is_refused_and_not_replaced(tmp_path: Path, text: str) -> None:
    path = tmp_path / "razor.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(KeyFileInvalid):
        installation.load(path)
    assert path.read_text() == text


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_file_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "razor.key"
    installation.load(path)
    path.chmod(mode)
    with pytest.raises(KeyFileInvalid):
        installation.load(path)
    path.chmod(0o400)
    installation.load(path)
