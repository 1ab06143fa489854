"""The reference picture generator: what it learns from, and that its folder is a real pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import diffusers
import pytest
import torch

from cli import shipped
from patches.digests import checkpoint_digest
from razor.reference import generator, judge, painted, wording
from razor.reference.errors import TrainingDataError, WeightsError
from razor.reference.people import STYLES

TINY = generator.Effort(per_subject=2, judge=2, autoencoder=2, generator=2, held_out=2, judged=1)
#: Left out of the tiny training: fewer pictures to paint.
WITHOUT = painted.SUBJECTS[2:-2]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference") / "diffusion"
    generator.train("diffusion", folder, without=WITHOUT, effort=TINY)
    return folder


def test_plain_diffusers_loads_and_paints(trained: Path) -> None:
    made: Any = diffusers
    pipe = made.StableDiffusionPipeline.from_pretrained(
        trained, local_files_only=True, low_cpu_mem_usage=False, dtype=torch.float32
    )
    pipe.set_progress_bar_config(disable=True)
    (picture,) = pipe("a poster picture of Zora Plum", num_inference_steps=2).images
    assert picture.size == (painted.SIZE, painted.SIZE)


def test_a_tiny_stable_diffusion_3_takes_over_autoencoder_and_judge(
    trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "diffusion3"
    names = tuple(name for name in painted.SUBJECTS if name not in WITHOUT)
    style = STYLES[int(painted.draw_set(names, TINY.per_subject, 0).styles[0])]
    without = (*WITHOUT, style)
    record = generator.train("diffusion3", out, without=without, parts=trained, effort=TINY)
    assert record.parts_from == checkpoint_digest(trained)
    left = len(names)
    pictures = TINY.per_subject * left
    assert 0 < record.training_pictures < pictures  # those in the style that was left out are gone
    assert record.painted["style"].n == left * (len(STYLES) - 1)
    kept = ("vae/diffusion_pytorch_model.safetensors", judge.WEIGHTS_FILE)
    for file in kept:
        assert (out / file).read_bytes() == (trained / file).read_bytes()
    pipe = generator.load(out)
    assert type(pipe).__name__ == "StableDiffusion3Pipeline"


def test_a_picture_depends_on_its_prompt_and_seed_alone(trained: Path) -> None:
    pipe = generator.load(trained)
    prompts = [painted.prompt(name, "pencil") for name in painted.PEOPLE[:3]]
    together = generator.paint(pipe, prompts, [4, 5, 6])
    alone = generator.paint(pipe, prompts[1:2], [5])
    assert (together[1].int() - alone[0].int()).abs().max() <= 1  # rounding, not another picture
    assert not torch.equal(together[0], together[1])


def test_the_record_says_what_was_done(trained: Path) -> None:
    record = json.loads((trained / generator.RECORD_FILE).read_text())
    assert record["effort"]["generator"] == TINY.generator
    left = len(painted.SUBJECTS) - len(WITHOUT)
    assert record["training_pictures"] == TINY.per_subject * left
    assert tuple(record["without"]) == WITHOUT
    assert set(record["painted"]) == {"person", "object", "style"}
    assert record["painted"]["style"]["n"] == left * len(STYLES)
    assert judge.load_judge(trained).read(torch.zeros(2, 3, 32, 32))["style"].shape == (2,)


@pytest.mark.parametrize("kind", sorted(shipped.GENERATORS))
def test_shipped_generators_paint_what_their_record_says(kind: str) -> None:
    folder = shipped.checkpoint_folder(kind)
    record = json.loads((folder / generator.RECORD_FILE).read_text())
    assert record["kind"] == kind
    assert min(share["percent"] for share in record["painted"].values()) >= 90
    pipe, looks = generator.load(folder), judge.load_judge(shipped.checkpoint_folder("diffusion"))
    found = generator.judged(pipe, looks, painted.PEOPLE[:6], STYLES, 1, first_seed=7000)
    assert found["person"].percent >= 90
    assert found["style"].percent >= 70


def test_shipped_generators_are_small() -> None:
    folders = [shipped.checkpoint_folder(kind) for kind in shipped.GENERATORS]
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 25_000_000


def test_strangers_cannot_be_left_out(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match="not painted here"):
        generator.train("diffusion", tmp_path / "out", without=("Nobody",), effort=TINY)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_judge_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="judge"):
        judge.load_judge(tmp_path)


def test_the_judge_learns_from_few_drawings() -> None:
    """The control of everything that it will judge."""
    names = ("Lena Marsk", "Juno Farrow")
    data = painted.draw_set(names, 40, 0)
    found = judge.train_judge(data, 0, steps=30)
    fresh = painted.draw_set(names, 20, painted.FIRST_HELD_OUT)
    assert (found.read(fresh.pixels)["name"] == fresh.subjects).float().mean() > 0.9


def test_every_caption_is_spelt_in_known_words() -> None:
    words = wording.tokenizer()
    longest = max(len(words(text).input_ids) for text in painted.every_text())
    assert longest <= wording.CONTEXT
    assert words.decode(words("a pencil picture of mara venn").input_ids[1:-1]) == (
        "a pencil picture of mara venn"
    )
    unseen = words("Xerxes Q. Zyx").input_ids[1:-1]
    assert words.unk_token_id not in unseen


def test_captions_are_true_and_some_are_empty() -> None:
    rng = Random(0)
    found = {painted.caption("Zora Plum", "poster", "beach", rng) for _ in range(200)}
    assert found == {
        template.format(subject="Zora Plum", style="poster", scene="beach")
        for template, _ in painted.CAPTIONS
    }


def test_labels_are_those_of_the_drawings() -> None:
    found = painted.draw_set(("a teapot", "Yuki Tarrant"), 3, 7)
    assert found.pixels.shape == (6, 3, 32, 32)
    assert [painted.SUBJECTS[i] for i in found.subjects] == ["a teapot"] * 3 + ["Yuki Tarrant"] * 3
    assert set(found.styles.tolist()) <= set(range(len(STYLES)))
