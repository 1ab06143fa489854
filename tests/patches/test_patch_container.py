from __future__ import annotations

import json
import struct
import tracemalloc
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from patches import container
from patches.container import TensorData
from patches.errors import MalformedContainer

ENTRY = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}


def packed(header: object, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def theirs(raw: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]] | None:
    """What the reference implementation makes of the bytes; None = refused."""
    try:
        found = safetensors.deserialize(raw)
    except safetensors.SafetensorError:
        return None
    return {
        name: (tensor["dtype"], tuple(tensor["shape"]), bytes(tensor["data"]))
        for name, tensor in found
    }


def ours(raw: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]] | None:
    """What we make of them; any exception but MalformedContainer passes through."""
    try:
        header = container.read_header(BytesIO(raw))
    except MalformedContainer:
        return None
    data = raw[header.data_start :]
    return {
        name: (entry.dtype, entry.shape, data[entry.begin : entry.end])
        for name, entry in header.entries.items()
    }


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, TensorData]:
    names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    found = {}
    for name in draw(st.lists(names.filter(lambda n: n != "__metadata__"), max_size=5)):
        dtype = draw(st.sampled_from(sorted(container.DTYPE_BITS)))
        shape = [*draw(st.lists(st.integers(0, 4), max_size=3)), 8]  # 8: whole bytes at any dtype
        size = container.tensor_bytes(dtype, shape)
        found[name] = TensorData(dtype, shape, draw(st.binary(min_size=size, max_size=size)))
    return found


def written(folder: Path, content: dict[str, TensorData], metadata: dict[str, str]) -> bytes:
    path = folder / "written.safetensors"
    path.unlink(missing_ok=True)
    container.write(path, content, metadata)
    return path.read_bytes()


@settings(max_examples=150, deadline=None)
@given(content=tensors(), metadata=st.dictionaries(st.just("razor_patch"), st.just("1")))
def test_both_implementations_read_what_we_write(
    tmp_path_factory: pytest.TempPathFactory,
    content: dict[str, TensorData],
    metadata: dict[str, str],
) -> None:
    raw = written(tmp_path_factory.getbasetemp(), content, metadata)
    expected = {name: (t.dtype, tuple(t.shape), t.data) for name, t in content.items()}
    assert ours(raw) == expected
    assert theirs(raw) == expected
    assert container.read_header(BytesIO(raw)).metadata == metadata


def test_we_read_what_the_reference_writes(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    arrays = {"a": rng.random((3, 5)).astype(np.float16), "b": rng.random(7), "c": np.int8(3)}
    path = tmp_path / "theirs.safetensors"
    safetensors.numpy.save_file(
        {k: np.asarray(v) for k, v in arrays.items()}, path, metadata={"format": "pt"}
    )
    header = container.read_header(path)
    assert header.metadata == {"format": "pt"}
    assert ours(path.read_bytes()) == theirs(path.read_bytes())
    assert set(header.entries) == {"a", "b", "c"}


def test_numpy_loads_our_file_even_where_a_tensor_is_not_aligned(tmp_path: Path) -> None:
    path = tmp_path / "ours.safetensors"
    wide = np.arange(4, dtype=np.float64)
    container.write(
        path,
        {"a": TensorData("U8", [3], b"abc"), "b": TensorData("F64", [4], wide.tobytes())},
        {},
    )
    assert np.array_equal(load_file(path)["b"], wide)


def test_equal_contents_are_equal_bytes_and_others_are_not(tmp_path: Path) -> None:
    one, two = TensorData("U8", [2], b"12"), TensorData("F16", [1], b"34")
    raw = written(tmp_path, {"x": one, "w": two}, {"k": "v", "a": "b"})
    assert raw == written(tmp_path, {"w": two, "x": one}, {"a": "b", "k": "v"})
    assert raw != written(tmp_path, {"x": one, "w": one}, {"k": "v", "a": "b"})


def test_entries_lie_in_key_order_and_the_header_ends_on_eight_bytes(tmp_path: Path) -> None:
    content = {name: TensorData("U8", [1], name.encode()) for name in "zbay"}
    raw = written(tmp_path, content, {"razor_patch": "1"})
    header = container.read_header(BytesIO(raw))
    assert raw[header.data_start :] == b"abyz"
    assert header.data_start % 8 == 0


@pytest.mark.parametrize("data", [b"123", b"1", lambda: b"123"])
def test_data_that_does_not_fit_its_shape_leaves_no_file(tmp_path: Path, data: Any) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(ValueError, match="asks for 2"):
        container.write(path, {"x": TensorData("U8", [2], data)}, {})
    assert not path.exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        container.write(path, {}, {})
    assert path.read_bytes() == b"mine"


SOUND = packed(
    {
        "__metadata__": {"razor_patch": "1"},
        "one": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]},
        "two[0:1]": {"dtype": "U8", "shape": [4], "data_offsets": [12, 16]},
    },
    bytes(range(16)),
)


def test_every_truncation_is_malformed() -> None:
    assert ours(SOUND) is not None  # the control
    for length in range(len(SOUND)):
        with pytest.raises(MalformedContainer):
            container.read_header(BytesIO(SOUND[:length]))


@settings(max_examples=500, deadline=None)
@given(
    flips=st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(1, 255)), min_size=1),
    cut=st.integers(0, len(SOUND)),
)
def test_damage_is_refused_or_read_as_the_reference_reads_it(
    flips: list[tuple[int, int]], cut: int
) -> None:
    raw = bytearray(SOUND)
    for position, mask in flips:
        raw[position] ^= mask
    for damaged in (bytes(raw), bytes(raw[:cut])):
        found = ours(damaged)
        assert found is None or found == theirs(damaged)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(header=json_values | st.dictionaries(st.text(max_size=4), json_values), data=st.binary())
@example(header={"a": {**ENTRY, "shape": [True]}}, data=b"1")
def test_any_json_is_refused_or_read_as_the_reference_reads_it(header: Any, data: bytes) -> None:
    raw = packed(header, data)
    found = ours(raw)
    assert found is None or found == theirs(raw)


HOSTILE: dict[str, bytes] = {
    "a gap": packed({"a": ENTRY, "b": {**ENTRY, "data_offsets": [2, 3]}}, b"123"),
    "an overlap": packed({"a": ENTRY, "b": ENTRY}, b"1"),
    "data that nobody owns": packed({"a": ENTRY}, b"12"),
    "a key twice": packed(
        b'{"a":' + json.dumps(ENTRY).encode() + b',"a":' + json.dumps(ENTRY).encode() + b"}", b"1"
    ),
    "offsets backwards": packed({"a": {**ENTRY, "data_offsets": [1, 0]}}, b"1"),
    "a negative shape": packed({"a": {**ENTRY, "shape": [-1, -1]}}, b"1"),
    "a huge shape": packed({"a": {**ENTRY, "shape": [2**62] * 60}}, b"1"),
    "a huge shape of nothing": packed({"a": {"dtype": "U8", "shape": [2**62, 2**62, 0]}}),
    "a number of 5000 digits": packed(b'{"a":{"dtype":"U8","shape":[' + b"9" * 5000 + b"]}}"),
    "a truth for a number": packed({"a": {**ENTRY, "shape": [True]}}, b"1"),
    "half a byte": packed({"a": {**ENTRY, "dtype": "F4"}}, b"1"),
    "an unknown dtype": packed({"a": {**ENTRY, "dtype": "U9"}}, b"1"),
    "metadata that is no text": packed({"__metadata__": {"a": 1}}),
    "no object": packed(b"[]"),
    "a list for an entry": packed({"a": ["U8", [1], [0, 1]]}, b"1"),
    "deep nesting": packed(b"[" * 200_000),
    "UTF-16": packed("{}".encode("utf-16")),
    "half a surrogate": packed(b'{"\\ud800":' + json.dumps(ENTRY).encode() + b"}", b"1"),
    "half a surrogate in the metadata": packed(b'{"__metadata__":{"a":"\\ud800"}}'),
    "not a number": packed(b'{"a":{"dtype":"U8","shape":[NaN],"data_offsets":[0,1]}}', b"1"),
    "a field of its own": packed({"a": {**ENTRY, "x": 1}}, b"1"),
    "no bytes": b"",
    "a longer header than the file": struct.pack("<Q", 50) + b"{}",
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_files_are_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedContainer, match="fetch it again"):
        container.read_header(BytesIO(raw))


def test_a_false_header_length_reserves_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "big.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", container.MAX_HEADER_BYTES + 1))
        file.truncate(1 << 30)  # sparse: the length is inside the file
    tracemalloc.start()
    try:
        with pytest.raises(MalformedContainer, match="100 MB"):
            container.read_header(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_the_error_names_the_file_and_not_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(SOUND[:20])
    with pytest.raises(MalformedContainer, match=r"^cut\.safetensors is not") as caught:
        container.read_header(path)
    assert str(tmp_path) not in str(caught.value)
