from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from patch_world import Edit, World, loaded, rewrite, same, tree
from safetensors.numpy import save_file

from patches import apply as door
from patches import folder
from patches.apply import apply, revert
from patches.digests import checkpoint_digest
from patches.errors import (
    BaseMismatch,
    DestinationExists,
    DigestMismatch,
    NotEnoughSpace,
    NothingToRevert,
    PatchError,
    TensorMissing,
    UnsafePath,
)
from patches.paths import file_inside


def test_applying_writes_what_numpy_computes_and_leaves_the_base(
    world: World, edits: list[Edit]
) -> None:
    before = tree(world.base)
    out = world.root / "out"
    written = apply(world.patch(edits), world.base, out)
    assert same(loaded(out), world.files)
    assert not same(loaded(out), loaded(world.base))
    assert tree(world.base) == before
    assert set(written.tensors) == {(edit.file, edit.tensor) for edit in edits}
    assert (out / "config.json").read_bytes() == before["config.json"]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_reverting_restores_every_bit_of_every_file(
    world: World, edits: list[Edit], elsewhere: bool
) -> None:
    (world.base / ".notes").write_text("hidden files stay too")
    out, back = world.root / "out", world.root / "back"
    apply(world.patch(edits), world.base, out)
    patched = tree(out)
    revert(out, back if elsewhere else None)
    assert tree(back if elsewhere else out) == tree(world.base)
    if elsewhere:
        assert tree(out) == patched
    else:
        assert not (out / ".razor").exists()
        with pytest.raises(NothingToRevert):
            revert(out)


def three(world: World) -> list[Path]:
    """Patches that touch the same tensor: other parts, all of it, the same part again."""
    file = "model.safetensors"
    for box, value in (([(0, 2), (0, 8)], 1), ([(1, 4), (2, 5)], 2), (None, 3)):
        shape = (6, 8) if box is None else [stop - start for start, stop in box]
        world.patch([Edit(file, "proj", box, np.full(shape, value, np.float16))])
    return world.patches


def test_patches_go_on_in_order_at_once_or_one_by_one(world: World) -> None:
    patches = three(world)
    at_once = world.root / "at-once"
    apply(patches, world.base, at_once)
    assert same(loaded(at_once), world.files)
    source = world.base
    for number, patch in enumerate(patches):
        target = world.root / f"step{number}"
        apply(patch, source, target)
        source = target
    assert checkpoint_digest(source) == checkpoint_digest(at_once)
    revert(at_once)
    assert tree(at_once) == tree(world.base)


def test_steps_are_taken_back_one_at_a_time(world: World) -> None:
    patches = three(world)
    states = [world.base]
    for number, patch in enumerate(patches):
        apply(patch, states[-1], world.root / f"step{number}")
        states.append(world.root / f"step{number}")
    last = states.pop()
    aside = world.root / "aside"
    revert(last, aside)
    assert tree(aside) == tree(states[-1])
    while states:
        revert(last)
        assert tree(last) == tree(states.pop())


def test_the_wrong_order_names_the_tensor(world: World) -> None:
    first, second, *_ = three(world)
    out = world.root / "out"
    with pytest.raises(BaseMismatch, match="'proj'") as caught:
        apply([second, first], world.base, out)
    assert caught.value.tensor == "proj"
    assert not out.exists()


def _siblings(world: World) -> set[str]:
    return {path.name for path in world.root.iterdir()}


def _edit_base(world: World) -> None:
    tensors = {name: array for name, array in loaded(world.base)["model.safetensors"].items()}
    tensors["bias"][0] += 1
    save_file(tensors, world.base / "model.safetensors")


def _drop_tensor(world: World) -> None:
    tensors = loaded(world.base)["model.safetensors"]
    del tensors["bias"]
    save_file(tensors, world.base / "model.safetensors")


def _reshape(world: World) -> None:
    tensors = loaded(world.base)["model.safetensors"]
    tensors["bias"] = tensors["bias"].reshape(2, 3)
    save_file(tensors, world.base / "model.safetensors")


def _drop_file(world: World) -> None:
    (world.base / "text/model.safetensors").unlink()


def _link_file(world: World) -> None:
    path = world.base / "text/model.safetensors"
    path.rename(world.root / "real.safetensors")
    path.symlink_to(world.root / "real.safetensors")


def _link_folder(world: World) -> None:
    (world.base / "text").rename(world.root / "real")
    (world.base / "text").symlink_to(world.root / "real")


def _damage_patch(world: World) -> None:
    path = world.patches[0] / folder.FILE_NAME
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


def _promise_other_values(world: World) -> None:
    listed = folder.read_patch(world.patches[0]).manifest.tensors
    changed = [
        entry.model_copy(update={"sha256_after": "0" * 64}) if entry.tensor == "bias" else entry
        for entry in listed
    ]
    rewrite(world.patches[0], tensors=changed)


def _occupy(world: World) -> None:
    (world.root / "out").mkdir()


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (_edit_base, BaseMismatch),
        (_drop_tensor, TensorMissing),
        (_reshape, TensorMissing),
        (_drop_file, TensorMissing),
        (_link_file, UnsafePath),
        (_link_folder, UnsafePath),
        (_damage_patch, DigestMismatch),
        (_promise_other_values, DigestMismatch),
        (_occupy, DestinationExists),
    ],
)
def test_on_any_refusal_nothing_is_written(
    world: World, edits: list[Edit], spoil: Callable[[World], None], error: type[PatchError]
) -> None:
    patch = world.patch(edits)
    spoil(world)
    before, files = _siblings(world), tree(world.root)
    with pytest.raises(error):
        apply(patch, world.base, world.root / "out")
    assert (_siblings(world), tree(world.root)) == (before, files)


def test_the_first_tensor_that_differs_is_named_with_both_digests(
    world: World, edits: list[Edit]
) -> None:
    patch = world.patch(edits)
    _edit_base(world)
    with pytest.raises(BaseMismatch) as caught:
        apply(patch, world.base, world.root / "out")
    error = caught.value
    expected = folder.read_patch(patch).manifest.tensors[2].sha256_before
    assert (error.tensor, error.file, error.expected) == ("bias", "model.safetensors", expected)
    assert error.found != expected
    assert error.found in str(error)


def test_a_change_outside_the_edited_tensors_does_not_matter(
    world: World, edits: list[Edit]
) -> None:
    patch = world.patch(edits)
    (world.base / "config.json").write_text("{}")
    apply(patch, world.base, world.root / "out")


def test_the_destination_may_not_lie_in_the_checkpoint(world: World, edits: list[Edit]) -> None:
    with pytest.raises(UnsafePath, match="inside"):
        apply(world.patch(edits), world.base, world.base / "new/out")
    assert not (world.base / "new").exists()


def test_a_full_disk_is_seen_before_writing(
    world: World, edits: list[Edit], monkeypatch: pytest.MonkeyPatch
) -> None:
    patch = world.patch(edits)
    monkeypatch.setattr(door.shutil, "disk_usage", lambda _: SimpleNamespace(free=2 << 20))
    apply(patch, world.base, world.root / "fits")  # the control
    monkeypatch.setattr(door.shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    with pytest.raises(NotEnoughSpace) as caught:
        apply(patch, world.base, world.root / "out")
    assert caught.value.needed_bytes > caught.value.free_bytes == 1 << 20


def test_what_the_disk_did_not_keep_is_found_by_reading_back(
    world: World, edits: list[Edit], monkeypatch: pytest.MonkeyPatch
) -> None:
    patch = world.patch(edits)
    write = door._write

    def flip(part: door.PatchedFile, path: Path) -> None:
        write(part, path)
        raw = bytearray(path.read_bytes())
        raw[part.header.data_start + part.header.entries["proj"].begin] ^= 1
        path.write_bytes(raw)

    before = _siblings(world)
    monkeypatch.setattr(door, "_write", flip)
    with pytest.raises(DigestMismatch, match="read back"):
        apply(patch, world.base, world.root / "out")
    assert _siblings(world) == before


def test_a_revert_that_was_cut_short_can_be_run_again(
    world: World, edits: list[Edit], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = world.root / "out"
    apply(world.patch(edits), world.base, out)
    replace = door._replace

    def once(folder: Path, name: str, *rest: object) -> None:
        if name.startswith("text/"):
            raise KeyboardInterrupt
        replace(folder, name, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(door, "_replace", once)
        with pytest.raises(KeyboardInterrupt):
            revert(out)
    assert tree(out) != tree(world.base)
    revert(out)
    assert tree(out) == tree(world.base)


def test_weights_that_changed_since_are_not_reverted(world: World, edits: list[Edit]) -> None:
    out = world.root / "out"
    apply(world.patch(edits), world.base, out)
    tensors = loaded(out)["model.safetensors"]
    tensors["bias"][0] += 1
    save_file(tensors, out / "model.safetensors")
    before = tree(out)
    with pytest.raises(BaseMismatch, match="'bias'"):
        revert(out)
    assert tree(out) == before


def test_damaged_undo_data_is_refused(world: World, edits: list[Edit]) -> None:
    out = world.root / "out"
    apply(world.patch(edits), world.base, out)
    path = out / ".razor/undo/patch.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DigestMismatch, match=r"^patch\.safetensors"):
        revert(out)
    (out / ".razor/undo/undo.json").write_text("{}")
    with pytest.raises(PatchError, match=r"undo\.json"):
        revert(out)


def test_an_undo_keeps_only_what_changed(world: World) -> None:
    patch = world.patch(
        [Edit("model.safetensors", "proj", [(0, 1), (0, 8)], np.ones((1, 8), np.float16))]
    )
    apply(patch, world.base, world.root / "out")
    kept = loaded_undo(world.root / "out")
    assert {key: array.shape for key, array in kept.items()} == {"proj[0:1,0:8]": (1, 8)}


def loaded_undo(out: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(out / ".razor/undo/patch.safetensors")


def test_two_files_may_have_a_tensor_of_the_same_name(world: World) -> None:
    patch = world.patch(
        [
            Edit("model.safetensors", "proj", None, np.ones((6, 8), np.float16)),
            Edit("text/model.safetensors", "proj", None, np.ones((4, 4, 4), np.float32)),
        ]
    )
    out = world.root / "out"
    apply(patch, world.base, out)
    assert same(loaded(out), world.files)
    revert(out)
    assert tree(out) == tree(world.base)


@pytest.mark.parametrize("name", ["link.safetensors", "linked/model.safetensors"])
def test_a_file_is_not_reached_through_a_link(world: World, name: str) -> None:
    (world.base / "link.safetensors").symlink_to(world.base / "model.safetensors")
    (world.base / "linked").symlink_to(world.base / "text")
    assert file_inside(world.base, "text/model.safetensors", tensor="t").is_file()  # the control
    with pytest.raises(UnsafePath, match="link"):
        file_inside(world.base, name, tensor="t")


def test_the_first_bytes_of_a_patched_file_are_the_base_header(
    world: World, edits: list[Edit]
) -> None:
    out = world.root / "out"
    apply(world.patch(edits), world.base, out)
    for name in world.files:
        one, other = (world.base / name).read_bytes(), (out / name).read_bytes()
        assert len(one) == len(other)
        assert one[:200] == other[:200]
    shutil.rmtree(out)
