from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from patch_world import Edit, World, loaded, rewrite
from safetensors.numpy import save_file

from patches import folder
from patches.apply import apply
from patches.digests import checkpoint_digest
from patches.verify import Check, verify


@pytest.fixture
def patch(world: World, edits: list[Edit]) -> Path:
    """A patch whose manifest names the base's digest."""
    registered = checkpoint_digest(world.base)
    made = world.patch(edits)
    model = folder.read_patch(made).manifest.model
    rewrite(made, model=model.model_copy(update={"checkpoint_digest": registered}))
    return made


def last(checks: list[Check]) -> Check:
    assert all(check.passed for check in checks[:-1])
    return checks[-1]


def test_a_sound_patch_passes_every_check(patch: Path) -> None:
    checks = verify(patch)
    assert [check.name for check in checks] == ["manifest", "patch digest", "entries"]
    assert all(check.passed for check in checks)


def test_base_and_patched_are_told_apart(world: World, patch: Path) -> None:
    out = world.root / "out"
    apply(patch, world.base, out)
    assert "the base" in last(verify(patch, world.base)).detail
    assert "already patched" in last(verify(patch, out)).detail
    assert last(verify(patch, out)).passed


def test_another_model_fails_and_the_first_tensor_is_named(world: World, patch: Path) -> None:
    tensors = loaded(world.base)["model.safetensors"]
    tensors["bias"][0] += 1
    save_file(tensors, world.base / "model.safetensors")
    check = last(verify(patch, world.base))
    assert not check.passed
    assert "'bias'" in check.detail
    (world.base / "model.safetensors").unlink()
    assert "no such file" in last(verify(patch, world.base)).detail


def test_a_half_patched_folder_fails(world: World, patch: Path) -> None:
    out = world.root / "out"
    apply(patch, world.base, out)
    (out / "model.safetensors").write_bytes((world.base / "model.safetensors").read_bytes())
    check = last(verify(patch, out))
    assert not check.passed
    assert "1 of 3 tensors are patched" in check.detail


def test_what_is_wrong_is_an_answer_and_no_exception(world: World, patch: Path) -> None:
    file = patch / folder.FILE_NAME
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    assert last(verify(patch, world.base)).name == "patch digest"
    assert not last(verify(patch, world.base)).passed
    file.unlink()
    assert last(verify(patch)).name == "manifest"


@pytest.mark.parametrize("patched", [False, True])
def test_the_whole_folder_patch_aside_is_the_registered_one(
    world: World, patch: Path, patched: bool
) -> None:
    where = world.base
    if patched:
        where = world.root / "out"
        apply(patch, world.base, where)
    assert last(verify(patch, where, whole=True)).passed
    tensors = loaded(where)["model.safetensors"]
    tensors["scale"] = np.asarray(4.5)  # no edited tensor
    save_file(tensors, where / "model.safetensors", metadata={"format": "np"})
    assert last(verify(patch, where)).passed
    check = last(verify(patch, where, whole=True))
    assert (check.name, check.passed) == ("whole folder", False)


def test_a_patch_on_a_later_version_does_not_vouch_for_the_whole_folder(
    world: World, patch: Path
) -> None:
    second = world.patch([Edit("model.safetensors", "bias", None, np.ones(6, np.float32))])
    out = world.root / "out"
    apply(patch, world.base, out)
    assert not last(verify(second, out, whole=True)).passed
