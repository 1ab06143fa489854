"""Tensors on disk come back to the bit, and whatever is wrong with them is made again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from razor.families import clip
from razor.kept import UNUSED_SECONDS, Kept
from razor.material import Material
from razor.memory import Memory
from razor.reference.clip import shipped_clip
from tests.razor.conftest import run

VALUE = {"a": torch.arange(12.0).view(3, 4).T, "b": torch.tensor([float("inf"), -0.0, 1e-42])}


def same(found: object, value: dict[str, Tensor]) -> bool:
    assert isinstance(found, dict)
    return all(torch.equal(found[name], tensor) for name, tensor in value.items())


def test_what_was_put_is_got_back_to_the_bit(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "cache", 10**6)
    assert kept.get("x") is None
    kept.put("x", VALUE)
    kept.put("y", VALUE["b"])
    assert same(kept.get("x"), VALUE)
    alone = kept.get("y")
    assert isinstance(alone, Tensor)
    assert alone.view(torch.int32).tolist() == VALUE["b"].view(torch.int32).tolist()


@pytest.mark.parametrize("damage", [b"", b"\0" * 200, b"not a tensor"])
def test_a_damaged_file_is_none(tmp_path: Path, damage: bytes) -> None:
    kept = Kept(tmp_path, 10**6)
    kept.put("x", VALUE)
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(damage)
    assert kept.get("x") is None
    kept.put("x", VALUE)
    assert same(kept.get("x"), VALUE)


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    kept = Kept(tmp_path, 3000)
    for number, name in enumerate("abc"):
        kept.put(name, torch.full((200,), float(number)))  # some 900 bytes each
        os.utime(kept._path(name), (number, time.time() - 100 + number))
    assert kept.get("a") is not None  # used: it is the latest now
    kept.put("d", torch.zeros(200))
    assert [name for name in "abcd" if kept.get(name) is not None] == ["a", "c", "d"]
    os.utime(kept._path("c"), (0, time.time() - UNUSED_SECONDS - 1))
    kept.put("e", torch.zeros(2))
    assert [name for name in "acde" if kept.get(name) is not None] == ["a", "d", "e"]


def test_what_is_too_large_and_a_folder_that_cannot_be_are_no_error(tmp_path: Path) -> None:
    Kept(tmp_path / "small", 10).put("x", VALUE)
    assert not (tmp_path / "small").exists()
    (tmp_path / "file").touch()
    kept = Kept(tmp_path / "file" / "below", 10**6)
    kept.put("x", VALUE)
    assert kept.get("x") is None


def test_another_version_is_never_given_what_was_kept_of_this_one(tmp_path: Path) -> None:
    kept = Kept(tmp_path, 10**6)
    made: list[str] = []

    def make(text: str) -> Callable[[], Tensor]:
        def made_now() -> Tensor:
            made.append(text)
            return torch.tensor([float(len(text))])

        return made_now

    for version, key in (("v1", "pairs"), ("v2", "pairs"), ("v1", "others"), ("v1", "pairs")):
        Memory(kept, version).get(key, "gradient", make(f"{version} {key}"))
    assert made == ["v1 pairs", "v2 pairs", "v1 others"]


def test_a_new_process_with_what_was_kept_does_the_same_job_with_fewer_passes(
    tmp_path: Path, gather: Callable[..., Material]
) -> None:
    material = gather("Oskar Brill")
    runs = []
    for _ in range(2):
        family = clip.load(shipped_clip())  # as after a restart: nothing in memory
        family.memory = Memory(Kept(tmp_path, 10**9), "digest")
        runs.append(run(family, material, dry_run=True).report)
    first, second = runs
    assert second.scores == first.scores
    assert second.preflight == first.preflight
    assert second.cost.backward_passes < first.cost.backward_passes
    assert second.cost.forward_passes < first.cost.forward_passes
