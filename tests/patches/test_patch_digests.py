from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from patch_world import World, sha

from patches import container, digests
from patches.errors import NotACheckpoint, UnsafePath


def test_a_checkpoint_digest_is_what_the_shell_makes_of_it(world: World) -> None:
    script = "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum"
    shell = subprocess.run(
        ["bash", "-c", script], cwd=world.base, capture_output=True, text=True, check=True
    )
    assert digests.checkpoint_digest(world.base) == "sha256:" + shell.stdout.split()[0]


def test_a_checkpoint_digest_follows_contents_and_names_only(world: World) -> None:
    first = digests.checkpoint_digest(world.base)
    copy = world.root / "copy"
    shutil.copytree(world.base, copy)
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
    (copy / ".razor").mkdir()
    (copy / ".razor/undo.json").write_text("hidden")
    assert digests.checkpoint_digest(copy) == first
    (copy / "config.json").rename(copy / "other.json")
    assert digests.checkpoint_digest(copy) != first


def test_links_and_missing_folders_are_refused(world: World) -> None:
    with pytest.raises(NotACheckpoint):
        digests.checkpoint_digest(world.base / "nowhere")
    (world.base / "link").symlink_to(world.base / "config.json")
    with pytest.raises(UnsafePath):
        digests.checkpoint_digest(world.base)


@pytest.mark.parametrize("name", ["two\nlines", "back\\slash"])
def test_names_that_would_blur_the_lines_are_refused(world: World, name: str) -> None:
    (world.base / name).write_text("x")
    with pytest.raises(UnsafePath):
        digests.checkpoint_digest(world.base)


def test_a_file_digest_is_sha256(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc" * 1000)
    assert digests.file_digest(path) == hashlib.sha256(b"abc" * 1000).hexdigest()


def test_a_tensor_digest_is_over_its_raw_bytes(world: World) -> None:
    path = world.base / "model.safetensors"
    header = container.read_header(path)
    for name, array in world.files["model.safetensors"].items():
        assert digests.tensor_digest(path, header, header.entries[name]) == sha(array)


def test_a_folder_digest_does_not_depend_on_the_order_of_listing() -> None:
    files = [("b/x", "1" * 64), ("a", "2" * 64), ("b-x", "3" * 64)]
    assert digests.folder_digest(files) == digests.folder_digest(files[::-1])
    assert digests.folder_digest(files) != digests.folder_digest(files[:2])
