"""Whatever lies in an evidence folder or its tar: every check is answered, nothing is raised.

``RAZOR_FUZZ_EXAMPLES=20000`` searches longer.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evidence_world import Made
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evidence import checkpoints, keys, names, statements
from evidence.errors import EvidenceError
from evidence.verify import verify

EXAMPLES = int(os.environ.get("RAZOR_FUZZ_EXAMPLES", "40"))
LONG = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
JSON = (names.REPORT, names.LOG, names.CERTIFICATE, names.SIGNATURE, names.MANIFEST)
ODD: list[Any] = [
    None, True, -1, 2**70, 1.5, float("nan"), float("inf"), "", "é" * 300, "\ud800", "../../x",
    [], {}, [[]], ["a", 1, None], {"a": []}, "YQ==", "!", [{}], [{"sig": 1, "keyid": 2}],
]  # fmt: skip


@pytest.fixture
def copy(pristine: Made, tmp_path: Path) -> Callable[[], Path]:
    """A way to a fresh copy of the whole evidence."""
    target = tmp_path / "copy"

    def fresh() -> Path:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(pristine.folder, target)
        return target

    return fresh


def failing(path: Path) -> list[str]:
    result = verify(path)
    assert all(check.detail for check in result.checks)
    return [check.name for check in result.checks if not check.passed]


def mutated(data: bytes, rng: random.Random, flips: int, cut: float | None, more: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(flips):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    if cut is not None:
        del changed[int(len(changed) * cut) :]
    at = rng.randrange(len(changed) + 1)
    changed[at:at] = more
    return bytes(changed)


BYTES = {
    "seed": st.integers(0, 2**32),
    "flips": st.integers(0, 20),
    "cut": st.none() | st.floats(0, 1),
    "more": st.binary(max_size=40),
}


@LONG
@given(name=st.sampled_from(names.ALL), **BYTES)
def test_damaged_bytes(
    copy: Callable[[], Path], name: str, seed: int, flips: int, cut: float | None, more: bytes
) -> None:
    folder = copy()
    data = (folder / name).read_bytes()
    changed = mutated(data, random.Random(seed), flips, cut, more)
    (folder / name).write_bytes(changed)
    assert bool(failing(folder)) is (changed != data)


def swap(value: Any, rng: random.Random, odd: Any) -> Any:
    """One value somewhere inside becomes ``odd``."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        return {**value, key: swap(value[key], rng, odd)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        place = rng.randrange(len(value))
        return [*value[:place], swap(value[place], rng, odd), *value[place + 1 :]]
    return odd


@LONG
@given(name=st.sampled_from(JSON), seed=st.integers(0, 2**32), odd=st.sampled_from(ODD))
def test_a_field_of_any_file_is_anything(
    copy: Callable[[], Path], name: str, seed: int, odd: Any
) -> None:
    folder = copy()
    document = json.loads((folder / name).read_bytes())
    changed = swap(document, random.Random(seed), odd)
    (folder / name).write_text(json.dumps(changed, indent=2, sort_keys=True) + "\n")
    assert changed == document or failing(folder)


@LONG
@given(seed=st.integers(0, 2**32), odd=st.sampled_from(ODD))
def test_what_somebody_signed_himself_is_anything(
    copy: Callable[[], Path], pristine: Made, seed: int, odd: Any
) -> None:
    """Who holds the key may lie of what no other file tells, such as limits, and crash nothing."""
    folder = copy()
    found = statements.read(
        (folder / names.CERTIFICATE).read_bytes(), pristine.key.public, what="it"
    )
    rng = random.Random(seed)
    predicate = swap(dict(found.predicate), rng, odd)
    statement = statements.Statement(found.subjects, found.predicate_type, predicate)
    try:
        raw = statements.sign(statement, pristine.key)
    except ValueError:
        return  # What is no JSON cannot be signed here.
    (folder / names.CERTIFICATE).write_bytes(raw)
    if predicate == found.predicate:
        assert failing(folder) == []
    elif not isinstance(predicate, dict) or predicate.keys() != found.predicate.keys():
        assert "certificate" in failing(folder)
    else:
        failing(folder)


def test_deep_and_huge_files(copy: Callable[[], Path]) -> None:
    for name in JSON:
        for raw in (b"[" * 200_000, b'{"a":' * 100_000, b"9" * 100_000, b"\xff\xfe", b"NaN", b""):
            folder = copy()
            (folder / name).write_bytes(raw)
            assert failing(folder)


@LONG
@given(
    raw=st.binary(max_size=300)
    | st.text(max_size=300).map(lambda text: text.encode("utf-8", "ignore"))
)
def test_readers_of_single_files(pristine: Made, raw: bytes) -> None:
    public = pristine.key.public
    for read in (
        lambda: keys.read_public(raw),
        lambda: checkpoints.read(raw, public),
        lambda: statements.read(raw, public, what="it"),
    ):
        with pytest.raises(EvidenceError):
            read()


def member(name: str, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


BAD_MEMBERS = {
    "a way up": member("evidence/../../x"),
    "an absolute path": member("/etc/passwd"),
    "a link": member(f"evidence/{names.KEY}", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a hard link": member(f"evidence/{names.KEY}", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
    "a device": member(f"evidence/{names.KEY}", type=tarfile.CHRTYPE, devmajor=1, devminor=5),
    "a pipe": member(f"evidence/{names.KEY}", type=tarfile.FIFOTYPE),
    "a folder": member(f"evidence/{names.KEY}", type=tarfile.DIRTYPE),
    "a newline": member(f"evidence/{names.KEY}\n"),
    "a hidden folder": member(f".evidence/{names.KEY}"),
    "wide letters": member("evidence/\uff4b\uff45\uff59.pem"),
    "a turn of writing": member("evidence/\u202emep.yek"),
    "no folder": member(names.KEY),
    "an empty name": member(""),
}


@pytest.mark.parametrize("name", BAD_MEMBERS)
def test_a_tar_with_a_trick_writes_nothing(name: str, tmp_path: Path) -> None:
    path = tmp_path / "evidence.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(BAD_MEMBERS[name])
    before = sorted(tmp_path.rglob("*"))
    assert failing(path) == ["files"]
    assert sorted(tmp_path.rglob("*")) == before


def sparse() -> bytes:
    """A file of a terabyte in a tar of a kilobyte (the old GNU form)."""
    header = bytearray(member(f"evidence/{names.KEY}").tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[483:495] = b"%011o\0" % 2**33  # the size that it has when unpacked
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(1024)


def test_a_tar_that_unpacks_to_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evidence.tar"
    path.write_bytes(sparse())
    with tarfile.open(path) as tar:
        (found,) = tar.getmembers()
        assert found.isreg()  # the trap: it looks like any file
        assert found.size == 2**33
    assert failing(path) == ["files"]
    chain = tarfile.TarInfo("evidence/" + "a" * 200).tobuf(tarfile.GNU_FORMAT)[:1024]
    path.write_bytes(chain * 3000 + bytes(1024))
    assert failing(path) == ["files"]


@LONG
@given(**BYTES)
def test_damaged_tars(
    copy: Callable[[], Path], tmp_path: Path, seed: int, flips: int, cut: float | None, more: bytes
) -> None:
    folder = copy()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in names.ALL:
            tar.add(folder / name, f"evidence/{name}")
    path = tmp_path / "evidence.tar"
    rng = random.Random(seed)
    data = buffer.getvalue()
    # In the headers, mostly: there the tricks are.
    blocks = [place for place in range(0, len(data), 512) if data[place + 257 :][:5] == b"ustar"]
    changed = bytearray(mutated(data, rng, 0, cut, more))
    for _ in range(flips):
        place = rng.choice(blocks) + rng.randrange(512)
        if place < len(changed):
            changed[place] = rng.randrange(256)
    path.write_bytes(changed)
    failing(path)
