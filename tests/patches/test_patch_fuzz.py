"""Whatever bytes are called a patch: the right answer, or an error that the package names.

``RAZOR_FUZZ_EXAMPLES=20000`` searches longer.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api_schemas.patches import TensorEntry
from patches import apply, container, undo, verify
from patches.errors import EntriesDisagree, NotAPatch, PatchError, UnsafePath
from patches.folder import MAX_SLICES, METADATA, check_entries, entry_key, parse_manifest
from patches.paths import safe_relative

GOLDEN = Path(__file__).parent / "golden" / "v1"
EXAMPLES = int(os.environ.get("RAZOR_FUZZ_EXAMPLES", "60"))
LONG = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
FILES = ("patch/manifest.json", "patch/patch.safetensors", "base/model.safetensors")
#: What a field may become: of the wrong kind, beyond any bound, or a way out.
ODD: list[Any] = [
    None, True, -1, 0, 2**63, 10**400, 0.5, float("nan"), float("inf"), "", "x" * 5000,
    "../../etc/passwd", "/etc/passwd", "a\x00b", "a\nb", "C:\\x", ".razor/undo", "\ud800", "\u202e",
    "\uff4dodel.safetensors", [], {}, [[]], [[0, 1]], [[-1, 5]], [[0, 10**30]], [1] * 100,
    {"a": {"b": {}}},
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside."""
    found = [path]
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            found += places(inner, (*path, key))
    return found


def changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(document) if isinstance(document, dict) else list(document)
    copy[path[0]] = changed(document[path[0]], path[1:], value)
    return copy


MANIFEST = json.loads((GOLDEN / "patch" / "manifest.json").read_text())
PLACES = places(MANIFEST)


def kibibytes(figure: str) -> int:
    """A figure of this process's memory, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{figure}:"))


@pytest.fixture(scope="module", autouse=True)
def held() -> int:
    """What the process held before this file's first test, from where its peak counts anew."""
    Path("/proc/self/clear_refs").write_text("5")
    return kibibytes("VmRSS")


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[], Path]:
    """A way to a fresh copy of base and patch; the last one is removed."""
    target = tmp_path / "copy"

    def fresh() -> Path:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(GOLDEN, target)
        return target

    return fresh


def consider(root: Path) -> None:
    """Everything that reads a patch or a checkpoint ends well, or as the package says."""
    for check in verify.verify(root / "patch", root / "base"):
        assert check.detail
    out = root / "out"
    try:
        written = apply.apply(root / "patch", root / "base", out)
    except PatchError:
        assert not out.exists()
        return
    apply.revert(written.folder, root / "back")
    for path in (root / "base").iterdir():
        assert (root / "back" / path.name).read_bytes() == path.read_bytes()


def test_the_golden_patch_itself_is_applied_and_taken_back(copy: Callable[[], Path]) -> None:
    """The control: what is damaged below is sound before."""
    root = copy()
    consider(root)
    assert (root / "back").is_dir()


@LONG
@given(
    file=st.sampled_from(FILES),
    seed=st.integers(0, 2**32),
    flips=st.integers(0, 20),
    cut=st.none() | st.floats(0, 1),
    more=st.binary(max_size=40),
)
def test_damaged_bytes(
    copy: Callable[[], Path], file: str, seed: int, flips: int, cut: float | None, more: bytes
) -> None:
    rng = random.Random(seed)
    root = copy()
    data = bytearray((root / file).read_bytes())
    for _ in range(flips):
        data[rng.randrange(len(data))] = rng.randrange(256)
    if cut is not None:
        del data[int(len(data) * cut) :]
    at = rng.randrange(len(data) + 1)
    data[at:at] = more
    (root / file).write_bytes(data)
    consider(root)


@LONG
@given(
    changes=st.lists(
        st.tuples(st.sampled_from(PLACES), st.sampled_from(ODD)), min_size=1, max_size=3
    )
)
def test_a_manifest_whose_fields_were_changed(
    copy: Callable[[], Path], changes: list[tuple[tuple[Any, ...], Any]]
) -> None:
    document = MANIFEST
    for path, value in changes:
        try:
            document = changed(document, path, value)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took the place away
    root = copy()
    raw = json.dumps(document).encode()
    (root / "patch" / "manifest.json").write_bytes(raw)
    consider(root)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe{}",
        b"[" * 200_000,
        b'{"format_version":1,' + b'"a":{' * 100_000,
        b'{"format_version":' + b"9" * 5000 + b"}",
        b'{"format_version":NaN}',
        b'{"format_version":1e999}',
        b'{"format_version":1,"format_version":2}',
        b'{"format_version":"1"}',
        b'{"format_version":true}',
    ],
)
def test_a_manifest_that_is_hardly_json(raw: bytes) -> None:
    with pytest.raises(PatchError):
        parse_manifest(raw)


@pytest.mark.parametrize("name", ["x" * 256, "\u00e9" * 128, "/".join(["x" * 100] * 30)])
def test_a_name_that_no_file_can_have_is_unsafe(name: str) -> None:
    with pytest.raises(UnsafePath, match="longer"):
        safe_relative(name)
    safe_relative("x" * 255)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_figure_that_is_no_number_is_refused(number: str) -> None:
    """It could be read, and never be written again."""
    provenance = MANIFEST["provenance"] | {"method": {"eps": "HERE"}}
    text = json.dumps(MANIFEST | {"provenance": provenance})
    parse_manifest(text.replace('"HERE"', "0.5").encode())
    with pytest.raises(NotAPatch):
        parse_manifest(text.replace('"HERE"', number).encode())


def test_very_many_entries_are_refused_in_good_time() -> None:
    """Comparing each with each would take from a minute to hours."""
    count = 20_000
    boxes = [[(number, number + 1)] for number in range(count)]
    whole = TensorEntry.model_validate(MANIFEST["tensors"][0])
    entries = [
        whole.model_copy(
            update={
                "key": entry_key(whole.tensor, box),
                "dtype": "U8",
                "shape": [count],
                "slice": box,
            }
        )
        for box in boxes
    ]
    stored = {entry.key: container.Entry("U8", (1,), 0, 1) for entry in entries}
    header = container.Header(stored, METADATA, 0, 0)
    for listed, why in (([*entries, entries[-1]], "twice"), (entries, "more than 2048")):
        started = time.process_time()
        with pytest.raises(EntriesDisagree, match=why):
            check_entries(listed, header)
        assert time.process_time() - started < 5
    few = entries[:MAX_SLICES]
    header = container.Header({entry.key: stored[entry.key] for entry in few}, METADATA, 0, 0)
    check_entries(few, header)


def test_links_in_a_checkpoint_lead_nowhere(copy: Callable[[], Path], tmp_path: Path) -> None:
    """A folder from outside may hold links: nothing behind one is read, moved or removed."""
    for place in (".razor", ".razor/undo", ".razor/undo.spent", ".razor/undo/undo.json"):
        root = copy()
        folder = root / "patched"
        victim = tmp_path / "victim"
        shutil.rmtree(victim, ignore_errors=True)
        (victim / "earlier").mkdir(parents=True)
        (victim / "kept").write_text("kept")
        path = folder / place
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(victim, target_is_directory=True)
        for read in (undo.read_undo, apply.revert):
            with pytest.raises(UnsafePath):
                read(folder)
        assert sorted(found.name for found in victim.iterdir()) == ["earlier", "kept"]
    root = copy()
    (root / "base" / "model.safetensors").unlink()
    (root / "base" / "model.safetensors").symlink_to("/etc/passwd")
    with pytest.raises(UnsafePath):
        apply.apply(root / "patch", root / "base", root / "out")


def test_folders_within_folders_without_end(copy: Callable[[], Path]) -> None:
    root = copy()
    at = os.open(root / "base", os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("a", dir_fd=at)
        inner = os.open("a", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)
    try:
        with pytest.raises(UnsafePath, match="deep"):
            apply.apply(root / "patch", root / "base", root / "out")
    finally:
        # Python removes folders by recursion: whoever cleans up after the tests would fail on it.
        subprocess.run(["rm", "-rf", str(root / "base")], check=True)


def test_reading_hostile_patches_takes_little_memory(held: int) -> None:
    """The last test of the file: what all of the above took at most, beside what was there."""
    assert kibibytes("VmHWM") - held < 2**19
