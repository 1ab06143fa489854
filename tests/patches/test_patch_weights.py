from __future__ import annotations

import io
import os
import tarfile

import numpy as np
import pytest
from patch_world import Edit, World, tree

from patches.apply import apply
from patches.errors import NotACheckpoint, TensorMissing, UnsafePath
from patches.folder import read_patch
from patches.splice import PatchSource
from patches.weights import PatchedFolder, PatchedWeights, patched_weights


def sources(world: World) -> list[PatchSource]:
    read = [read_patch(patch) for patch in world.patches]
    return [PatchSource(patch.manifest.tensors, patch.file) for patch in read]


def test_the_tar_holds_what_apply_writes(world: World, edits: list[Edit]) -> None:
    (world.base / ".hidden").write_text("not part of the checkpoint")
    (world.base / ("long" * 40)).write_text("a name that an old tar cannot hold")
    world.patch(edits)
    weights = patched_weights(world.base, sources(world))
    assert isinstance(weights, PatchedFolder)
    raw = b"".join(weights.iter_range())
    assert len(raw) == weights.size
    out = world.root / "out"
    apply(world.patches, world.base, out)
    expected = {name: data for name, data in tree(out).items() if not name.startswith(".")}
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        members = archive.getmembers()
        found = {member.name: archive.extractfile(member).read() for member in members}  # type: ignore[union-attr]
    assert found == expected
    assert [m.name for m in members] == sorted(expected)
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}


def test_the_tar_does_not_depend_on_times_and_modes(world: World, edits: list[Edit]) -> None:
    world.patch(edits)
    first = b"".join(patched_weights(world.base, sources(world)).iter_range())
    for path in world.base.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    assert b"".join(patched_weights(world.base, sources(world)).iter_range()) == first
    (world.base / "config.json").write_text("{}")  # the control
    assert b"".join(patched_weights(world.base, sources(world)).iter_range()) != first


def test_any_range_of_the_tar_can_be_read_alone(world: World, edits: list[Edit]) -> None:
    world.patch(edits)
    weights = patched_weights(world.base, sources(world))
    whole = b"".join(weights.iter_range())
    for start in range(0, len(whole), 997):
        assert b"".join(weights.iter_range(start, start + 1500)) == whole[start : start + 1500]


def test_a_checkpoint_with_one_weights_file_is_served_as_that_file(world: World) -> None:
    (world.base / "text/model.safetensors").unlink()
    world.patch([Edit("model.safetensors", "bias", None, np.zeros(6, np.float32))])
    weights = patched_weights(world.base, sources(world))
    assert isinstance(weights, PatchedWeights)
    assert weights.name == "model.safetensors"
    out = world.root / "out"
    apply(world.patches, world.base, out)
    assert b"".join(weights.iter_range()) == (out / "model.safetensors").read_bytes()


def test_a_folder_without_weights_is_refused(world: World) -> None:
    for path in world.base.rglob("*.safetensors"):
        path.unlink()
    with pytest.raises(NotACheckpoint):
        patched_weights(world.base, [])


def test_a_link_in_the_checkpoint_is_refused(world: World, edits: list[Edit]) -> None:
    world.patch(edits)
    (world.base / "link.json").symlink_to("/etc/passwd")
    with pytest.raises(UnsafePath, match="link"):
        patched_weights(world.base, sources(world))


def test_a_file_that_is_not_there_is_named(world: World, edits: list[Edit]) -> None:
    world.patch(edits)
    (world.base / "text/model.safetensors").unlink()
    with pytest.raises(TensorMissing, match=r"text/model\.safetensors"):
        patched_weights(world.base, sources(world))
