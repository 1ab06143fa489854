from __future__ import annotations

import itertools
import tracemalloc
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patch_world import Edit, World, loaded, same
from safetensors.numpy import load_file, save_file

from patches import container
from patches.errors import EntriesDisagree, TensorMissing
from patches.folder import read_patch
from patches.splice import PatchedFile, PatchSource


def source(patch: Path) -> PatchSource:
    read = read_patch(patch)
    return PatchSource(read.manifest.tensors, read.file)


def spliced(world: World, name: str) -> PatchedFile:
    return PatchedFile(world.base / name, [source(patch) for patch in world.patches], name=name)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[dict[str, tuple[int, ...]], list[list[tuple[str, list]]]]:
    """Shapes of tensors, and patches: lists of (tensor, disjoint row ranges with column range)."""
    shapes = {
        f"t{i}": (draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.integers(1, 3)))
        for i in range(draw(st.integers(1, 4)))
    }
    patches = []
    for _ in range(draw(st.integers(1, 3))):
        edits: list[tuple[str, list]] = []
        for tensor in draw(st.sets(st.sampled_from(sorted(shapes)), min_size=1)):
            rows, columns, depth = shapes[tensor]
            if draw(st.booleans()):
                edits.append((tensor, []))
                continue
            cut = draw(st.integers(0, rows - 1))
            for top, bottom in ((0, cut), (cut, rows)):
                if top < bottom and (draw(st.booleans()) or bottom == rows):
                    left = draw(st.integers(0, columns - 1))
                    right = draw(st.integers(left + 1, columns))
                    edits.append((tensor, [(top, bottom), (left, right), (0, depth)]))
        patches.append(edits)
    return shapes, patches


@settings(max_examples=60, deadline=None)
@given(plan=worlds(), seed=st.integers(0, 99), data=st.data())
def test_the_stream_is_what_numpy_would_save(
    tmp_path_factory: pytest.TempPathFactory,
    plan: tuple[dict[str, tuple[int, ...]], list[list[tuple[str, list]]]],
    seed: int,
    data: st.DataObject,
) -> None:
    rng = np.random.default_rng(seed)
    shapes, patches = plan
    arrays = {name: rng.standard_normal(shape).astype(np.float16) for name, shape in shapes.items()}
    world = World(tmp_path_factory.mktemp("world"), {"m.safetensors": arrays}).save()
    for edits in patches:
        made = []
        for tensor, box in edits:
            shape = [stop - start for start, stop in box] if box else shapes[tensor]
            values = rng.standard_normal(shape).astype(np.float16)
            made.append(Edit("m.safetensors", tensor, box or None, values))
        world.patch(made)
    brute = world.root / "brute.safetensors"
    save_file(world.files["m.safetensors"], brute, metadata={"format": "np"})

    stream = spliced(world, "m.safetensors")
    whole = b"".join(stream.iter_range())
    assert whole == brute.read_bytes()
    assert stream.size == len(whole)

    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    bounds = [0, *cuts, len(whole)]
    pieces = [b"".join(stream.iter_range(a, b)) for a, b in itertools.pairwise(bounds)]
    assert b"".join(pieces) == whole
    start, stop = data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, len(whole) + 9))
    assert b"".join(stream.iter_range(start, stop)) == whole[start:stop]


def test_entries_select_their_file(world: World, edits: list[Edit]) -> None:
    before = loaded(world.base)
    world.patch(edits)
    for name, expected in world.files.items():
        path = world.root / "out.safetensors"
        path.write_bytes(b"".join(spliced(world, name).iter_range()))
        found = {name: load_file(path)}
        assert same(found, {name: expected})
        assert not same(found, {name: before[name]})


def test_without_patches_the_file_comes_through_untouched(world: World) -> None:
    path = world.base / "model.safetensors"
    assert b"".join(PatchedFile(path, []).iter_range()) == path.read_bytes()


def test_a_blob_without_a_path_will_do(world: World, edits: list[Edit]) -> None:
    patch = read_patch(world.patch(edits))
    raw = patch.file.read_bytes()
    path = world.base / "model.safetensors"
    held = PatchedFile(path, [PatchSource(patch.manifest.tensors, lambda: BytesIO(raw))])
    named = PatchedFile(path, [PatchSource(patch.manifest.tensors, patch.file)])
    assert b"".join(held.iter_range()) == b"".join(named.iter_range())


def test_the_last_writer_wins(world: World) -> None:
    for value in (1, 2):
        world.patch([Edit("model.safetensors", "bias", None, np.full(6, value, np.float32))])
    one, two = (source(patch) for patch in world.patches)
    path = world.base / "model.safetensors"
    assert PatchedFile(path, [one, two]).tensor("bias").size == 24
    for order, expected in (([one, two], 2), ([two, one], 1)):
        part = PatchedFile(path, order).tensor("bias")
        assert np.frombuffer(b"".join(part.iter_range(0, 24)), np.float32)[0] == expected


def test_a_tensor_that_is_not_there_is_named(world: World, edits: list[Edit]) -> None:
    world.patch(edits)
    other = world.root / "other.safetensors"
    save_file({"bias": np.zeros(6, np.float32)}, other)
    with pytest.raises(TensorMissing, match="'proj'") as caught:
        PatchedFile(other, [source(world.patches[0])], name="model.safetensors")
    assert caught.value.tensor == "proj"
    save_file({"proj": np.zeros((6, 9), np.float16), "bias": np.zeros(6, np.float32)}, other)
    with pytest.raises(TensorMissing, match=r"F16 \[6, 9\], not F16 \[6, 8\]"):
        PatchedFile(other, [source(world.patches[0])], name="model.safetensors")


def test_a_patch_file_that_lacks_the_key_is_refused(world: World, edits: list[Edit]) -> None:
    one = source(world.patch(edits))
    empty = world.root / "empty.safetensors"
    container.write(empty, {}, {})
    with pytest.raises(EntriesDisagree, match="lacks it"):
        PatchedFile(world.base / "model.safetensors", [PatchSource(one.tensors, empty)])


def test_a_patch_file_whose_part_does_not_fit_is_refused(world: World, edits: list[Edit]) -> None:
    one = source(world.patch(edits))
    other = world.root / "other.safetensors"
    header = container.read_header(one.file)
    values = {
        key: container.TensorData(entry.dtype, (*entry.shape, 1), bytes(entry.end - entry.begin))
        for key, entry in header.entries.items()
    }
    container.write(other, values, {})
    with pytest.raises(EntriesDisagree, match="does not fit"):
        PatchedFile(world.base / "model.safetensors", [PatchSource(one.tensors, other)])


def test_an_empty_tensor_beside_a_patched_one_moves_nothing(world: World) -> None:
    world.patch(
        [
            Edit("model.safetensors", "proj", None, np.ones((6, 8), np.float16)),
            Edit("model.safetensors", "empty", None, np.zeros((0, 3), np.float32)),
        ]
    )
    path = world.root / "out.safetensors"
    path.write_bytes(b"".join(spliced(world, "model.safetensors").iter_range()))
    expected = {"model": world.files["model.safetensors"]}
    assert same({"model": load_file(path)}, expected)


def test_streaming_holds_one_tensor_not_the_file(tmp_path: Path) -> None:
    mebibyte = 1 << 20
    arrays = {f"t{i}": np.zeros((mebibyte // 4, 4), np.float32) for i in range(16)}
    world = World(tmp_path, {"m.safetensors": arrays}).save()
    world.patch(
        [
            Edit("m.safetensors", "t3", None, np.ones((mebibyte // 4, 4), np.float32)),
            Edit("m.safetensors", "t5", [(7, 9), (1, 3)], np.ones((2, 2), np.float32)),
        ]
    )
    stream = spliced(world, "m.safetensors")
    tracemalloc.start()
    try:
        total = sum(len(chunk) for chunk in stream.iter_range())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == stream.size > 64 * mebibyte
    assert peak < 16 * mebibyte


def test_negative_bounds_are_refused(world: World) -> None:
    stream = PatchedFile(world.base / "model.safetensors", [])
    with pytest.raises(ValueError, match="zero"):
        list(stream.iter_range(-1, 4))
