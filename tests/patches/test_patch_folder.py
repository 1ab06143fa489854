from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from patch_world import Edit, World, manifest, rewrite, tree

from patches import container, folder
from patches.errors import (
    DestinationExists,
    DigestMismatch,
    EntriesDisagree,
    NotAPatch,
    UnsafePath,
    UnsupportedFormat,
)


def test_a_patch_reads_back_as_it_was_written(world: World, edits: list[Edit]) -> None:
    patch = folder.read_patch(world.patch(edits))
    folder.check_patch(patch)
    copy = world.root / "copy"
    folder.write_patch(copy, patch.manifest, patch.file)
    assert tree(copy) == tree(world.patches[0])


def test_keys_name_the_tensor_and_the_slice(world: World, edits: list[Edit]) -> None:
    assert folder.entry_key("a.b", None) == "a.b"
    assert folder.entry_key("a.b", [(0, 2), (3, 5)]) == "a.b[0:2,3:5]"
    assert folder.entry_key("a.b", None, file="x/m.safetensors") == "x/m.safetensors:a.b"
    listed = folder.read_patch(world.patch(edits)).manifest.tensors
    assert listed[0].key == "model.safetensors:proj[1:3,2:6]"
    assert listed[2].key == "bias"


def test_the_manifest_has_one_form(world: World, edits: list[Edit]) -> None:
    path = world.patch(edits) / folder.MANIFEST_NAME
    raw = path.read_bytes()
    document = json.loads(raw)
    assert raw == (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()
    shuffled = json.dumps(dict(reversed(document.items()))).encode()
    assert folder.manifest_bytes(folder.parse_manifest(shuffled)) == raw


def test_another_format_version_is_refused_before_anything_else(world: World) -> None:
    with pytest.raises(UnsupportedFormat, match="knows 1") as caught:
        folder.parse_manifest(b'{"format_version": 2, "all": "new"}')
    assert (caught.value.found, caught.value.known) == (2, 1)


@pytest.mark.parametrize("raw", [b"", b"[]", b"\xff", b"{}", b'{"format_version": 1}', b"[" * 9999])
def test_a_broken_manifest_is_no_patch(raw: bytes) -> None:
    with pytest.raises(NotAPatch):
        folder.parse_manifest(raw)


def test_a_missing_or_linked_file_is_no_patch(world: World, edits: list[Edit]) -> None:
    patch = world.patch(edits)
    file = patch / folder.FILE_NAME
    file.rename(world.root / "elsewhere")
    with pytest.raises(NotAPatch, match=r"patch\.safetensors is missing"):
        folder.read_patch(patch)
    file.symlink_to(world.root / "elsewhere")
    with pytest.raises(NotAPatch, match="link"):
        folder.read_patch(patch)


def test_a_changed_byte_is_found(world: World, edits: list[Edit]) -> None:
    patch = world.patch(edits)
    file = patch / folder.FILE_NAME
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    with pytest.raises(DigestMismatch) as caught:
        folder.check_patch(folder.read_patch(patch))
    assert caught.value.expected != caught.value.found


def test_writing_is_all_or_nothing(world: World, edits: list[Edit]) -> None:
    patch = folder.read_patch(world.patch(edits))
    with pytest.raises(DestinationExists):
        folder.write_patch(world.patches[0], patch.manifest, patch.file)
    wrong = patch.manifest.model_copy(update={"patch_sha256": "0" * 64})
    target = world.root / "new/patch"
    with pytest.raises(DigestMismatch):
        folder.write_patch(target, wrong, patch.file)
    assert not target.parent.exists()


def _tensors(patch: Path, position: int, **changes: Any) -> dict[str, Any]:
    listed = list(folder.read_patch(patch).manifest.tensors)
    listed[position] = listed[position].model_copy(update=changes)
    return {"tensors": listed}


LIES: dict[str, tuple[int, dict[str, Any], type[Exception]]] = {
    "another dtype": (2, {"dtype": "I32"}, EntriesDisagree),
    "another shape": (2, {"shape": [7]}, EntriesDisagree),
    "another slice": (0, {"slice": [(0, 2), (2, 6)]}, EntriesDisagree),
    "a slice over the edge": (2, {"slice": [(0, 9)], "key": "bias[0:9]"}, EntriesDisagree),
    "another tensor": (2, {"tensor": "scale"}, EntriesDisagree),
    "a key that is not in the file": (2, {"key": "nobody"}, EntriesDisagree),
    "two digests for one tensor": (1, {"sha256_before": "0" * 64}, EntriesDisagree),
    "an absolute path": (2, {"file": "/etc/passwd"}, UnsafePath),
    "a path upwards": (2, {"file": "../x.safetensors"}, UnsafePath),
    "a path up and down": (2, {"file": "a/../../x"}, UnsafePath),
    "a backslash": (2, {"file": "..\\x"}, UnsafePath),
    "a drive": (2, {"file": "C:x"}, UnsafePath),
    "a hidden file": (2, {"file": ".razor/x"}, UnsafePath),
    "an empty part": (2, {"file": "a//b"}, UnsafePath),
    "no path": (2, {"file": ""}, UnsafePath),
    "a line break": (2, {"file": "a\nb"}, UnsafePath),
}


@pytest.mark.parametrize(("position", "changes", "error"), LIES.values(), ids=LIES.keys())
def test_a_manifest_that_lies_is_refused(
    world: World,
    edits: list[Edit],
    position: int,
    changes: dict[str, Any],
    error: type[Exception],
) -> None:
    patch = world.patch(edits)
    folder.check_patch(folder.read_patch(patch))  # the control
    rewrite(patch, **_tensors(patch, position, **changes))
    with pytest.raises(error):
        folder.check_patch(folder.read_patch(patch))


def test_entries_of_one_tensor_may_not_overlap(world: World, edits: list[Edit]) -> None:
    clash = Edit("model.safetensors", "proj", [(2, 4), (5, 7)], np.zeros((2, 2), np.float16))
    with pytest.raises(EntriesDisagree, match="overlap"):
        world.patch([*edits, clash])


def test_a_listed_key_twice_is_refused(world: World, edits: list[Edit]) -> None:
    patch = world.patch(edits)
    listed = folder.read_patch(patch).manifest.tensors
    rewrite(patch, tensors=[*listed, listed[2]])
    with pytest.raises(EntriesDisagree, match="twice"):
        folder.check_patch(folder.read_patch(patch))


def test_a_container_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "patch.safetensors"
    container.write(file, {}, {"format": "pt"})
    with pytest.raises(EntriesDisagree, match="razor_patch"):
        folder.check_patch(folder.Patch(manifest([], file), file))
